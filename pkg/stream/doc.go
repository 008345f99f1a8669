// Package stream is Weir's only door to NATS JetStream.
//
// Two streams exist. EVENTS (subjects events.<type>.<source>) carries what
// gateways publish; ALERTS (subjects alerts.<scope>.<rule>) carries what
// workers decide. One durable pull consumer, "fold", hands the messages of
// EVENTS to any number of workers, each message to one of them at a time.
//
// Start reading at [Connect]. Then, by role:
//
//   - weir apply: [Conn.PlanProvision] and [Plan.Apply] create or update the
//     streams and the consumer. Nothing else in the program creates them.
//   - a gateway: [Conn.PublishAsync]; package gateway builds batches on it.
//   - a worker: [Conn.Consumer], [Consumer.Fetch], [Message.Ack] after its
//     commit returned, and beside them [Consumer.Keep].
//   - a backfill or the auditor: [Conn.History].
//   - the alert relay: [Conn.Publish], which returns after the stream has the
//     message.
//   - everybody who asks "how far are we": [Conn.State].
//
// What is guaranteed: a message is stored at least once when done or Publish
// reports success, and delivered at least once until it is acknowledged.
// Exactly once is made of that by the ledger, from the identity of the message
// ([Message.Identity]) or, where it has none that can be trusted, from its
// place in the stream ([Consumer.Incarnation], [Message.Sequence],
// [Message.Stored]).
package stream
