package store

import (
	"strconv"
	"time"
)

// session is what Postgres does about clients that hang or have vanished. The
// ledger keeps every event counted once whatever these are; they keep the other
// workers going. A worker that stops in the middle of a flush holds its shard's
// row and, after its claim, ledger pages that others want too. All of these are
// to be shorter than the consumer's AckWait (5 s; see services/wire), so that what a worker waits
// for is over before the messages in its hands are given to another one, which
// would wait for the same.
//
//   - idle_in_transaction_session_timeout: the client is there and sends nothing,
//     stopped or starved. Postgres ends its session and with it the transaction;
//     when the worker goes on, it finds that out, and tries again.
//   - lock_timeout, in flushes only (NextBatch): a second more, so that who waits
//     for such a session gets the lock and need not write everything again. It is
//     for what the former does not reach: a session that holds a lock and is busy.
//   - client_connection_check_interval: the client has gone while a statement
//     runs, or waits for a lock. Without it Postgres sees that only when it answers.
//   - tcp_user_timeout, tcp_keepalives_…: the client's machine is gone, and says
//     nothing. They end the session that holds its shard's lease, too.
//
// What the URL says itself goes before these.
func (c Config) session() map[string]string {
	ms := func(d time.Duration) string { return strconv.FormatInt(max(1, d.Milliseconds()), 10) }
	return map[string]string{
		"idle_in_transaction_session_timeout": ms(c.IdleInTx),
		"client_connection_check_interval":    ms(min(time.Second, c.IdleInTx)),
		"tcp_user_timeout":                    ms(c.IdleInTx),
		"tcp_keepalives_idle":                 "3", // seconds
		"tcp_keepalives_interval":             "1", // seconds
		"tcp_keepalives_count":                "3",
	}
}
