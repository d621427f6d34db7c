package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"syscall"
	"time"

	"fairway.dev/fairway/internal/dataplane/nft"
	"fairway.dev/fairway/internal/node"
	"fairway.dev/fairway/internal/node/hostdns"
)

// Down ends an instance, running or killed, and takes away everything of it: processes, Pods, namespaces, mounts, links, routes, rules,
// and its data unless keepData. On an instance that is not there it does nothing and says so.
func Down(ctx context.Context, i Instance, keepData bool, log *slog.Logger, p *Progress) error {
	if os.Geteuid() != 0 {
		return errors.New("this needs root, to remove network namespaces, rules and containers; run it with sudo")
	}
	_, dataErr := os.Stat(i.DataDir)
	if _, runErr := os.Stat(i.RunDir); errors.Is(runErr, fs.ErrNotExist) && (keepData || errors.Is(dataErr, fs.ErrNotExist)) {
		p.Say("Fairway %q is not here: nothing to do.", i.Name)
		return nil
	}
	if i.running() {
		pid, err := i.stop(ctx)
		if err != nil {
			return err
		}
		if pid != 0 {
			p.Step("stopped process %d", pid)
		}
	}
	unlock, err := i.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if err := clean(ctx, i, log, keepData); err != nil {
		return err
	}
	if keepData {
		p.Step("removed Pods, rules and links; data stays in %s", i.DataDir)
	} else {
		p.Step("removed Pods, rules, links and data")
	}
	return nil
}

// stop asks the instance's process to end, and ends it after ten seconds. It has ended when the kernel let go of its lock: whether
// somebody has read its exit status, too, does not matter.
func (i Instance) stop(ctx context.Context) (pid int, err error) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	told := time.Now().Add(tellTime)
	for pid = i.holder(); pid <= 1; pid = i.holder() {
		if !i.running() {
			return 0, nil
		}
		if time.Now().After(told) {
			return 0, fmt.Errorf("the running Fairway %q did not leave its process id in %s; stop it by hand and try again", i.Name, i.lockFile())
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-tick.C:
		}
	}
	proc, err := os.FindProcess(pid)
	if err != nil {
		return 0, err
	}
	if err := proc.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return 0, fmt.Errorf("process %d: stop: %w", pid, err)
	}
	kill := time.AfterFunc(10*time.Second, func() { _ = proc.Kill() })
	defer kill.Stop()
	for i.running() {
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-tick.C:
		}
	}
	return pid, nil
}

// tellTime is how long a process that has just taken the lock may take to write its id.
const tellTime = time.Second

// downGrace is how long all Pods together may take to end when the instance is taken down.
const downGrace = 2 * time.Second

// clean takes away what an instance left in the kernel and on disk. The lock is held.
func clean(ctx context.Context, i Instance, log *slog.Logger, keepData bool) error {
	var errs []error
	errs = append(errs, node.Cleanup(ctx, node.CleanupConfig{Instance: i.Name, RunDir: i.RunDir, DataDir: i.DataDir, Grace: downGrace, Logger: log}))
	errs = append(errs, nft.Cleanup(i.table()), hostdns.Undo(ctx, hostDNS(i)))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%w; what is left is still recorded, run '%s' again", err, i.Command("down"))
	}
	errs = append(errs, i.removeRun())
	if !keepData {
		errs = append(errs, i.removeData())
	}
	return errors.Join(errs...)
}
