// Package bench is `weir bench`: it measures what Weir folds on this machine, next to what JetStream alone delivers.
//
// A [Run] starts servers and workers as processes of their own, so that the CPU and memory of each kind can be told apart,
// fills a stream with events made up beforehand, and lets it be emptied again and again: by a consumer that only acknowledges
// (bare.go), and by Weir's workers (fold.go), in turn, so that a ratio compares what ran within the same minute. Each time
// the consumer is new and the tables are as they were. Then a stream is filled while it is emptied, to see how long an event takes until
// it can be asked for (live.go).
//
// No number counts unless the events do: after every measurement each aggregation at each granularity is compared, per bucket and
// API version, with a tally that was kept while the events were made (tally.go, check.go).
package bench
