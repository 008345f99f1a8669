package bench

import (
	"fmt"

	"github.com/spf13/cobra"

	"weir/pkg/bench"
	"weir/pkg/embedded"
)

// natsCommand is a NATS server as a process of its own, so that its CPU and memory can be told from others'. It prints its URL.
func natsCommand() *cobra.Command {
	var cfg embedded.NATSConfig
	cmd := &cobra.Command{
		Use:    "nats",
		Short:  "Run a NATS server, for the measurement",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			server, err := embedded.StartNATS(cfg)
			if err != nil {
				return err
			}
			_, _ = fmt.Fprintln(cmd.OutOrStdout(), server.URL())
			<-cmd.Context().Done()
			server.Close()
			return nil
		},
	}
	cmd.Flags().StringVar(&cfg.Dir, "dir", "", "data `directory`")
	cmd.Flags().BoolVar(&cfg.SyncAlways, "sync-always", false, "write each message to the disk before it is acknowledged")
	return cmd
}

// bareCommand is the consumer that everything is compared with.
func bareCommand() *cobra.Command {
	var url string
	var ahead int
	cmd := &cobra.Command{
		Use:    "bare",
		Short:  "Take messages and acknowledge them, for the measurement",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE:   func(cmd *cobra.Command, _ []string) error { return bench.Bare(cmd.Context(), url, ahead) },
	}
	cmd.Flags().StringVar(&url, "nats", "", "`URL` of the server")
	cmd.Flags().IntVar(&ahead, "ahead", 0, "`number` of messages that are asked for ahead")
	return cmd
}
