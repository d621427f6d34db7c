package app

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"
)

// parts runs the parts of a role side by side. When one fails, or the context ends, all are told to stop.
type parts struct {
	group *errgroup.Group
	ctx   context.Context
}

func newParts(ctx context.Context) *parts {
	g, ctx := errgroup.WithContext(ctx)
	return &parts{g, ctx}
}

// add starts a part; a part may add others. One that returns without an error, while nobody told it to stop, is done.
func (p *parts) add(name string, run func(context.Context) error) {
	p.group.Go(func() error {
		if err := run(p.ctx); err != nil && p.ctx.Err() == nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	})
}

// wait returns when all parts have stopped: nil if they were told to, else why the first one failed.
func (p *parts) wait() error {
	if err := p.group.Wait(); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}
