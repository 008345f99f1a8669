// Package embedded runs Weir's two servers on one machine: NATS with JetStream inside the process, and a
// private PostgreSQL from the binaries found on the machine. `weir up`, `weir demo` and the tests use it;
// beyond one machine Weir connects to a NATS cluster and a PostgreSQL of one's own instead.
//
// One directory belongs to one process: take it with LockDir, then give it to StartNATS (files in nats/)
// and StartPostgres (files in postgres/). Both return when the server answers.
package embedded
