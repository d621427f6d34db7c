package network

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/vishvananda/netlink"
)

// resubscribe is the pause after the kernel has closed a subscription, as it does when it was read too slowly.
const resubscribe = time.Second

// Keep sets the machine's network up again whenever somebody has removed the node's device or set it down, with which the routes to
// the Services go too. It returns when ctx ends, with its error, or at once if the kernel tells nothing about devices. It must be called on a
// thread in the network namespace that Setup was called in.
func Keep(ctx context.Context, c Config, log *slog.Logger) error {
	for {
		if err := keep(ctx, c, log); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(resubscribe):
		}
	}
}

// keep does the work of Keep until the subscription ends.
func keep(ctx context.Context, c Config, log *slog.Logger) error {
	updates, done := make(chan netlink.LinkUpdate), make(chan struct{})
	if err := netlink.LinkSubscribe(updates, done); err != nil {
		return fmt.Errorf("watch devices: %w", err)
	}
	defer func() {
		close(done)
		for range updates { // the subscription's goroutine may be about to send
		}
	}()
	name := Device(c.Instance)
	repair := func() {
		if present(name) {
			return
		}
		if err := Setup(c); err != nil {
			log.Error("device not set up again", "device", name, "error", err)
			return
		}
		log.Warn("somebody had removed the device or set it down: set up again", "device", name)
	}
	repair() // what happened before the subscription
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case u, open := <-updates:
			if !open {
				return nil
			}
			// What counts is how the device is now: the news may be of our own doing.
			if u.Attrs().Name == name {
				repair()
			}
		}
	}
}

func present(device string) bool {
	l, err := netlink.LinkByName(device)
	var missing netlink.LinkNotFoundError
	if errors.As(err, &missing) {
		return false
	}
	return err != nil || l.Attrs().Flags&net.FlagUp != 0
}
