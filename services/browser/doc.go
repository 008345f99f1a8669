// Package browser holds the tests that look at the dashboard as people do, in a
// real Chromium: there is no code in it but tests.
//
// All tests share one instance of Weir (site_test.go), which has folded a real
// log whose true numbers are known, and one browser (chromium_test.go). A test
// opens pages with open, which also holds what must be true of every page: it
// logs no error, throws nothing, asks no other host, and axe-core finds nothing
// serious in it. Without Chromium the tests fail; -short skips them.
package browser
