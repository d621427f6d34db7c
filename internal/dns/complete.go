package dns

import (
	"context"
	"net/netip"

	"fairway.dev/fairway/internal/dns/wire"
)

// completable tells whether a denied question may be the first step of a resolver that walks its search path.
func (s *Server) completable(w *scratch) bool { return false }

// complete walks the rest of a client's search path for it.
func (s *Server) complete(ctx context.Context, w *scratch, p *plan, client netip.Addr, limit int) []byte {
	return nil
}

var _ = wire.NoError
