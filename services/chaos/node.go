package chaos

import (
	"github.com/spf13/cobra"

	"weir/pkg/embedded"
	"weir/services/config"
)

// nodeCommand is a NATS server as a process of its own, which the harness can kill.
func nodeCommand() *cobra.Command {
	var nats embedded.NATSConfig
	var cluster embedded.NATSCluster
	cmd := &cobra.Command{
		Use:    "nats-node",
		Short:  "Run a NATS server, for the harness",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			lock, err := embedded.LockDir(nats.Dir)
			if err != nil {
				return err
			}
			defer func() { _ = lock.Release() }() // it ends with the process
			if cluster.Listen != "" {
				cluster.Name = "chaos"
				nats.Cluster = &cluster
			}
			settings := config.Default()
			settings.Log.Format, settings.Log.Level = "json", "debug"
			nats.Logger = config.Logger(settings)
			server, err := embedded.StartNATS(nats)
			if err != nil {
				return err
			}
			<-cmd.Context().Done()
			server.Close()
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&nats.Dir, "dir", "", "data `directory`")
	f.StringVar(&nats.Listen, "listen", "", "`address` for clients")
	f.StringVar(&nats.ServerName, "name", "", "`name` of the server")
	f.StringVar(&cluster.Listen, "cluster-listen", "", "`address` for the other servers")
	f.StringSliceVar(&cluster.Routes, "routes", nil, "`addresses` of the other servers")
	return cmd
}
