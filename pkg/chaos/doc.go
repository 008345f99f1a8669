// Package chaos runs Weir in processes of its own, breaks them in every way that a seed draws, and proves that each event was
// counted once all the same.
//
// [Run] starts NATS servers, a Postgres and workers, with a proxy on every link between them. Sources publish made up events
// while the faults of the [Plan] go on; then all is healed and drained, and everything that is stored is compared with an
// oracle, three times: after the drain, after everything was restarted, and after the whole stream was delivered again. The oracle
// adds up the sources' own history, naively (sheet.go); what was published with an unknown outcome counts if the stream has it.
//
// A seed gives the same plan each time, but processes and networks have a will of their own: repeat a seed that has failed
// until it fails again.
package chaos
