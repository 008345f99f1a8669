// Package vectors holds the test that Weir answers Siddhi's own tests as
// Siddhi does, and rightly where Siddhi does not. There is no code in it but
// tests.
//
// A vector is a file of shared/vectors beside the repository, or of the folder
// that WEIR_VECTORS names: a stream, an aggregation, events, questions and the
// rows that answer them. Each runs through the whole of Weir: definition_test.go
// writes its definition as YAML, system_test.go publishes its events to
// JetStream and has the workers of its shards fold them into Postgres, and
// question_test.go asks its questions and judges the answers.
package vectors
