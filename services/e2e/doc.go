// Package e2e holds the tests that use Weir as its users do: they build the
// program, run it as processes, and look at it only from outside, through its
// command line, its HTTP API and NATS. There is no code in it but tests.
//
// Read main_test.go for how the program is built, process_test.go for how one
// is run, instance_test.go for `weir up`, and then any other file: each is about
// one promise. The tests that replay the real logs read them beside the
// repository, in shared/data, and say so where they are not there.
package e2e
