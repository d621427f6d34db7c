package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairway.dev/fairway/internal/node/network"
	"fairway.dev/fairway/internal/node/runtime"
)

// CleanupConfig says what Cleanup takes away.
type CleanupConfig struct {
	Instance        string        // as in Config
	DataDir, RunDir string        // as in Config
	Runc            string        // path of runc; empty: looked up
	Grace           time.Duration // how long all containers together may take to end; 0: killed at once
	Logger          *slog.Logger
}

// Cleanup stops and removes every container and Pod network of an instance, and undoes what network.Setup did on this machine. It works from
// the run directory alone, so also after the process that ran the Pods was killed; that process must not run. Images, and whatever else is
// in the data directory but Pods, stay. What cannot be removed does not keep it from the rest; all errors are returned.
func Cleanup(ctx context.Context, c CleanupConfig) error {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	for _, dir := range []*string{&c.DataDir, &c.RunDir} {
		if real, err := filepath.EvalSymlinks(*dir); err == nil {
			*dir = real
		}
	}
	r, err := runtime.New(c.Runc, c.RunDir)
	if err != nil {
		return err
	}
	n := &Node{Config: Config{Instance: c.Instance, DataDir: c.DataDir, RunDir: c.RunDir, Logger: c.Logger}, runtime: r}
	n.addresses = network.NewAllocator(nil)

	pods, err := podUIDs(c.RunDir)
	if err != nil {
		return err
	}
	var all []*runtime.Running
	for _, uid := range pods {
		all = append(all, n.loadAll(uid)...)
	}
	deadline, done := context.WithTimeout(ctx, c.Grace)
	defer done()
	stopRunning(deadline, all)
	var errs []error
	for _, r := range all {
		errs = append(errs, r.Remove())
	}
	for _, uid := range pods {
		errs = append(errs, n.removePod(types.UID(uid), network.SandboxOf(n.network(), uid, nil)))
	}
	errs = append(errs, network.Teardown(c.Instance, c.RunDir))
	// A runc that was killed while it started leaves the mount from which it runs a copy of itself.
	errs = append(errs, unmountBelow(filepath.Join(c.RunDir, "runc")))
	left, err := mountsBelow(c.RunDir)
	if errs = append(errs, err); err == nil && len(left) > 0 {
		errs = append(errs, fmt.Errorf("run directory %s: still mounted: %v", c.RunDir, left))
	}
	if errors.Join(errs...) == nil {
		errs = append(errs,
			unmountBelow(podsDir(c.DataDir)), os.RemoveAll(podsDir(c.DataDir)),
			os.RemoveAll(podsDir(c.RunDir)), os.RemoveAll(filepath.Join(c.RunDir, "runc")),
			runtime.RemoveCgroup(runtime.CgroupPath(c.Instance, "")), runtime.RemoveEmptyRoot(),
		)
	}
	return errors.Join(errs...)
}

func podUIDs(runDir string) ([]string, error) {
	entries, err := os.ReadDir(podsDir(runDir))
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var uids []string
	for _, e := range entries {
		uids = append(uids, e.Name())
	}
	return uids, nil
}

// podOf is a Pod of which only the UID is known: enough to name its files.
func podOf(uid string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: types.UID(uid)}}
}
