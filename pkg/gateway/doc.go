// Package gateway is what publishes events: the SDK that a gateway imports, the
// readers that replay an access log as events, and the simulator.
//
// A gateway makes one [Publisher] from a connection ([weir/pkg/stream.Connect])
// and calls [Publisher.Publish] for every API call:
//
//	conn, err := stream.Connect(ctx, stream.Config{URL: "nats://127.0.0.1:4222"})
//	...
//	p, err := gateway.NewPublisher(conn, gateway.PublisherConfig{Source: "gw-1"})
//	...
//	err = p.Publish(ctx, "request", []byte(`{"apiName":"pizza",...}`))
//	...
//	err = p.Close(ctx) // waits until the stream has everything
//
// Publish collects events of one type into messages and sends them without
// waiting. What Publish accepted is stored at least once, or [Publisher.Flush]
// reports an error: nothing is dropped in silence. What a crash of the process
// takes with it is what was not acknowledged yet.
//
// Everything below (replay, simulator) publishes through the same Publisher.
package gateway
