// Package failpoint names the steps of the protocol that takes an event from the
// stream into the tables, and lets tests make any of them fail.
//
// The code of each step calls [Set.Hit] when it is reached. In a normal build
// that does nothing and costs nothing: the call is inlined, and its error is
// known to be nil. Built with -tags failpoints, a set says what happens there:
// the process exits as if it were killed, the step panics or returns an error,
// or it pauses, until a test resumes it or for some time.
//
// Processes are told by the environment variable WEIR_FAILPOINTS, in the form that
// [Parse] reads; tests use the methods of Set.
package failpoint

// ExitCode is what a process ends with at a failpoint: that of one that was killed with -9.
const ExitCode = 137

// Variable is the environment variable with the failpoints of a process.
const Variable = "WEIR_FAILPOINTS"

// Step is a place in the protocol.
type Step string

// The way of a batch, in its order.
const (
	Fetched            Step = "fetched"              // the worker has messages in hand
	Decoded            Step = "decoded"              // events are in columns, bad ones are dead letters
	Folded             Step = "folded"               // the delta is made, rules are evaluated
	TransactionBegun   Step = "transaction-begun"    // nothing is written yet
	BatchNumbered      Step = "batch-numbered"       // the shard's row is locked, the fence is passed
	DeltaWritten       Step = "delta-written"        // the finest levels have the batch
	LevelsWritten      Step = "levels-written"       // the coarser levels have what was due
	AlertsWritten      Step = "alerts-written"       // alerts are in the outbox
	DeadLettersWritten Step = "dead-letters-written" // and dead letters in their table
	PagesClaimed       Step = "pages-claimed"        // ledger pages are locked, full pages not looked at
	Claimed            Step = "claimed"              // everything is written, nothing is committed
	Committed          Step = "committed"            // nothing is acknowledged; an error here is a commit of unknown outcome
	SomeAcked          Step = "some-acked"           // the first message is acknowledged, the others are not
	Acked              Step = "acked"                // all are
)

// What goes on beside it.
const (
	LeaseTaken       Step = "lease-taken"       // the shard is the worker's, nothing is read of it
	CascadeLoaded    Step = "cascade-loaded"    // what the coarser levels lack is in memory
	RollUp           Step = "roll-up"           // levels are due, and no batch comes
	Refusing         Step = "refusing"          // the ledger is about to be asked what is folded
	LedgerCompacting Step = "ledger-compacting" // scopes are dropped, no page has moved
	LedgerCompacted  Step = "ledger-compacted"  // pages have moved, nothing is committed
	OutboxRead       Step = "outbox-read"       // alerts are in the relay's hands, none is published
	AlertsPublished  Step = "alerts-published"  // and now they are, and still in the outbox
	BackfillRead     Step = "backfill-read"     // the backfill has messages in hand
	BackfillEnding   Step = "backfill-ending"   // it has all of them, and nobody knows
)

// Steps lists all steps, those of a batch first.
func Steps() []Step {
	return []Step{
		Fetched, Decoded, Folded, TransactionBegun, BatchNumbered, DeltaWritten, LevelsWritten, AlertsWritten,
		DeadLettersWritten, PagesClaimed, Claimed, Committed, SomeAcked, Acked,
		LeaseTaken, CascadeLoaded, RollUp, Refusing, LedgerCompacting, LedgerCompacted, OutboxRead, AlertsPublished,
		BackfillRead, BackfillEnding,
	}
}
