package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"fairway.dev/fairway/internal/apiserver"
	"fairway.dev/fairway/internal/memory"
)

// serveIn names the directory in which this program serves the API, instead of measuring it.
const serveIn = "FAIRWAY_BENCH_SERVE"

// serve runs the API server as `fairway up` does, and nothing else.
func serve(ctx context.Context, dir string) error {
	server, err := apiserver.New(apiserver.Config{Dir: filepath.Join(dir, "api"), Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}})
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	select {
	case err := <-ended:
		return fmt.Errorf("ended before it was ready: %w", err)
	case <-server.Ready():
	}
	// Under its name only when it is whole.
	if err := server.WriteKubeconfig(filepath.Join(dir, "kubeconfig.part"), -1, -1); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(dir, "kubeconfig.part"), filepath.Join(dir, "kubeconfig")); err != nil {
		return err
	}
	settled := make(chan error, 1)
	go func() { settled <- memory.Settle(ctx) }()
	err = <-ended
	<-settled
	return err
}
