package apiserver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"
	clientv3 "go.etcd.io/etcd/client/v3"
	etcdclient "go.etcd.io/etcd/client/v3/kubernetes"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sys/unix"

	"fairway.dev/fairway/internal/apiserver/joint"
)

const (
	// etcdQuota bounds the database. etcd's own 2 GiB would be reached by some tens of thousands of Pods being rolled.
	etcdQuota = 4 << 30
	// etcdStartLimit is how long etcd may take to replay its log before start-up is given up.
	etcdStartLimit = 30 * time.Second
	// logSegment is the size of a file of etcd's log. Two are allocated at any time, so that it decides what an empty database takes.
	logSegment = 16 << 20
	// peerURL is the address by which the one member knows itself. Nobody connects to it.
	peerURL = "unix://peer:0"
)

func init() { wal.SegmentSizeBytes = logSegment } // etcd has no other setting for it

// database is the etcd inside this process: one member, reached through a unix socket in a directory that only the owner may
// enter, so that it needs no port and no credentials of its own.
type database struct {
	dir     string   // etcd's data
	sockets *os.File // the directory of the two sockets
	noSync  bool
	quota   int64
	upkeep  upkeep
	room    *room
	log     *slog.Logger

	// faults, if set, stands between the API server and etcd: tests lose requests and answers there.
	faults func(clientv3.KV) clientv3.KV

	running  *embed.Etcd
	stopping atomic.Bool

	breaking sync.Once
	broken   chan struct{} // closed when etcd cannot go on
	cause    error         // read it after that
}

// newDatabase checks, without changing anything, that dir is free, or holds data that etcd can open. Whoever gets one closes it.
func newDatabase(dir string, noSync bool, log *slog.Logger) (*database, error) {
	d := &database{
		dir: filepath.Join(dir, "etcd"), noSync: noSync, quota: etcdQuota, log: log, broken: make(chan struct{}),
		upkeep: upkeep{every: upkeepEvery, history: historyBytes, revisions: historyRevisions, waste: wasteBytes},
		room:   &room{dir: dir, writes: roomForWrites, deletes: roomForDeletes},
	}
	if err := checkDatabase(d.dir); err != nil {
		return nil, fmt.Errorf("data directory %s: the database is damaged (%w); restore it from a copy, or remove %s to begin with an empty one", dir, err, d.dir)
	}
	var err error
	if d.sockets, err = os.Open(dir); err != nil {
		return nil, fmt.Errorf("data directory %s: open: %w", dir, err)
	}
	return d, nil
}

// close gives back what newDatabase took. The database is stopped.
func (d *database) close() { _ = d.sockets.Close() }

// checkDatabase opens the database file for reading: etcd would end the whole process on a file that it cannot open.
func checkDatabase(dir string) error {
	file := filepath.Join(dir, "member", "snap", "db")
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	db, err := openReadOnly(file)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return db.Close()
}

// openReadOnly turns bbolt's panics about impossible pages into errors.
func openReadOnly(file string) (db *bolt.DB, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
	}()
	return bolt.Open(file, 0o600, &bolt.Options{ReadOnly: true, Timeout: time.Second, PreLoadFreelist: true})
}

// endpoint is where a client in this process connects.
func (d *database) endpoint() string { return "unix://" + socketIn(d.sockets, "etcd") }

// socketIn is the path of a socket file in a directory that this process has open. The kernel takes no more than 107 bytes for the
// path of a socket, so that it leads there by the descriptor: the directory's own path may be of any length. etcd insists on something
// that looks like a port at the end.
func socketIn(dir *os.File, name string) string {
	return fmt.Sprintf("/proc/self/fd/%d/%s.sock:0", dir.Fd(), name)
}

// start opens the data and returns when requests are served.
func (d *database) start() error {
	cfg := embed.NewConfig()
	cfg.Dir = d.dir
	self, err := url.Parse(peerURL)
	if err != nil {
		return fmt.Errorf("etcd: %w", err)
	}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{{Scheme: "unix", Path: socketIn(d.sockets, "etcd")}}, []url.URL{*self}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{{Scheme: "unix", Path: socketIn(d.sockets, "peer")}}, []url.URL{*self}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.UnsafeNoFsync = d.noSync
	cfg.TickMs, cfg.ElectionMs = 10, 100 // there is no other member to wait for: elect at once
	cfg.QuotaBackendBytes = d.quota
	cfg.EnableGRPCGateway = false
	// Entries of the log are kept in memory, and files of it on disk, for members that lag behind. There are none.
	cfg.SnapshotCatchUpEntries, cfg.MaxWalFiles, cfg.MaxSnapFiles = 1, 2, 2
	// Old revisions serve only watches that fell behind; the API server compacts too, this is for when it is idle.
	cfg.AutoCompactionMode, cfg.AutoCompactionRetention = "periodic", "5m"
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(d.logger())

	// A process that was killed leaves its sockets, and binding fails on a path that exists. The directory lock says that
	// nobody else uses them.
	for _, name := range []string{"etcd", "peer"} {
		if err := os.Remove(socketIn(d.sockets, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("etcd: remove old socket: %w", err)
		}
	}
	if err := d.open(cfg); err != nil {
		return fmt.Errorf("etcd: start on %s: %w", d.dir, err)
	}
	return nil
}

// open starts etcd and returns when it is ready, or cannot be.
func (d *database) open(cfg *embed.Config) error {
	type opened struct {
		etcd *embed.Etcd
		err  error
	}
	done := make(chan opened, 1)
	go func() { // it stays where it is if etcd breaks meanwhile
		var o opened
		defer func() { done <- o }()
		defer recovered(&o.err)
		o.etcd, o.err = embed.StartEtcd(cfg)
	}()
	deadline := time.After(etcdStartLimit)
	tooLong := fmt.Errorf("not ready after %v", etcdStartLimit)
	select {
	case o := <-done:
		if o.err != nil {
			return d.explain(o.err)
		}
		d.running = o.etcd
	case <-d.broken:
		return d.cause
	case <-deadline:
		return tooLong
	}
	var err error
	select {
	case <-d.running.Server.ReadyNotify():
		return nil
	case err = <-d.running.Err():
	case <-d.broken:
		err = d.cause
	case <-deadline:
		err = tooLong
	}
	d.stop()
	return err
}

// client makes a client that calls etcd's own functions, past sockets and gRPC. Each has watch streams of its own. The database
// is started.
func (d *database) client() *etcdclient.Client {
	plain := v3client.New(d.running.Server)
	if d.faults != nil {
		plain.KV = d.faults(plain.KV)
	}
	return joint.Client(plain)
}

// explain says of an error of etcd's what to do. Nobody should be led to throw good data away.
func (d *database) explain(err error) error {
	if strings.Contains(err.Error(), unix.ENOSPC.Error()) {
		return fmt.Errorf("%w; what was acknowledged is safe: make room on the disk of %s (etcd's log takes 16 MiB at a time) and start again", err, d.dir)
	}
	return err
}

// await returns when etcd gave up while it ran, with the reason, or when ctx ends.
func (d *database) await(ctx context.Context) error {
	var err error
	select {
	case <-ctx.Done():
		return nil
	case <-d.broken:
		err = d.cause
	case err = <-d.running.Err():
	}
	return d.failure(err)
}

func (*database) failure(err error) error { return fmt.Errorf("etcd: failed while running: %w", err) }

// stop closes the data cleanly and returns when that is done. What is broken stands still, and is left to the end of the process.
func (d *database) stop() {
	if d.running == nil {
		return
	}
	select {
	case <-d.broken:
	default:
		d.stopping.Store(true)
		d.running.Close()
	}
	d.running = nil
}

// logger sends etcd's errors to the server's log. Its warnings are about slow disks and missing peers; they are kept for
// debugging, and so are the errors that every orderly stop and every first start bring along, and the last one, which is not only logged.
func (d *database) logger() *zap.Logger {
	expected := func(entry zapcore.Entry) bool {
		return entry.Message == firstStart || entry.Level > zapcore.ErrorLevel || d.stopping.Load()
	}
	last := standStill{d}
	return zap.New(slogCore{zapcore.WarnLevel, d.log.With("component", "etcd"), expected}, zap.WithFatalHook(last), zap.WithPanicHook(last))
}

// standStill keeps the end of etcd from being the end of the process. etcd logs what it cannot go on after, a write that failed or
// data that makes no sense, and does not expect to come back from that: so the goroutine that did stays there.
type standStill struct{ *database }

func (d standStill) OnWrite(entry *zapcore.CheckedEntry, fields []zapcore.Field) {
	d.breaking.Do(func() { // others follow from the first
		d.cause = d.explain(errors.New(message(entry.Entry, fields)))
		close(d.broken)
	})
	select {}
}

// firstStart is logged by etcd as an error while an empty database has not been written to.
const firstStart = "failed to update storage version"
