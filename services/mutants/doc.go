// Package mutants proves that the tests test: it breaks Weir's protocol on
// purpose, one line at a time, and requires that a test fails.
//
// mutants.yaml lists the mutants. Each is an edit of a source file, a text that
// occurs there once and what stands in its place, and the test that must catch
// it: one of some seconds, which passes without the mutant, and fails with it by
// what it checks. A hang proves nothing and catches nobody. Nothing of that is in the product: a mutant is built with the go command's
// -overlay, which reads the edited file in place of the one on disk.
//
// TestMutants_AreStillEditsOfTheSource runs with all other tests, so that no
// mutant is left behind when the code changes. With WEIR_MUTANTS=all, or a
// comma-separated list of names, TestMutants_AreCaught runs them; `task mutants:run`
// does, and `task mutants` lists them.
package mutants
