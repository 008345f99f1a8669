package apply

import (
	"context"
	"io"

	"go.uber.org/zap"

	"weir/pkg/definition"
	"weir/pkg/store"
	"weir/pkg/stream"
)

// Backfill sees the backfills through that are open, if any, and says on out
// how far they are. It can be ended at any time, and called again.
func Backfill(ctx context.Context, out io.Writer, catalog *definition.Catalog, db *store.DB, conn *stream.Conn, log *zap.Logger) error {
	b := backfills{out: out, catalog: catalog, db: db, conn: conn, log: log}
	names, bound, err := b.unfinished(ctx)
	if err != nil {
		return err
	}
	return b.complete(ctx, names, bound)
}
