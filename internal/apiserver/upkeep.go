package apiserver

import (
	"context"
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/storage/backend"
)

const (
	// upkeepEvery is how often the size of the database is looked at.
	upkeepEvery = 10 * time.Second
	// historyBytes is how much of old revisions is kept at most; upstream's compactor and etcd's own throw away what is five minutes old.
	historyBytes = 128 << 20
	// historyRevisions are kept whatever their size, for watches that are about to read them.
	historyRevisions = 1000
	// wasteBytes is how much of the file may be unused. It is given back when that is also more than half of it.
	wasteBytes = 64 << 20
)

// upkeep bounds a database.
type upkeep struct {
	every     time.Duration
	history   int64 // bytes
	revisions int64 // of history that are kept whatever their size
	waste     int64 // bytes

	after int64 // what was in use after the last compaction
	first int64 // the oldest revision at the last look
	stale int   // commits until etcd's figures say what that one has freed
}

// commitsToSettle is how many commits it takes until pages that a compaction frees no longer count as used: in the first they are
// freed, in the second they may be taken again, if by then nobody reads them any more, or else in the third.
const commitsToSettle = 3

// keep looks at the database until ctx ends.
func (d *database) keep(ctx context.Context) {
	tick := time.NewTicker(d.upkeep.every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := d.tend(ctx); err != nil && ctx.Err() == nil {
				d.log.Warn("database upkeep", "error", err)
			}
		}
	}
}

// tend does what is due: throws history away, gives unused room back, and ends etcd's refusal to write once there is room below its limit.
func (d *database) tend(ctx context.Context) error {
	etcd := d.running.Server
	backend := etcd.Backend()
	var full []*pb.AlarmMember
	for _, alarm := range etcd.Alarms() {
		if alarm.Alarm == pb.AlarmType_NOSPACE {
			full = append(full, alarm)
		}
	}
	d.settle(etcd.KV().FirstRev(), backend)
	used := backend.SizeInUse()
	d.upkeep.after = min(d.upkeep.after, used)
	if used-d.upkeep.after > d.upkeep.history || len(full) > 0 {
		if err := d.compact(ctx, len(full) > 0); err != nil {
			return err
		}
		d.settle(etcd.KV().FirstRev(), backend)
		used = backend.SizeInUse()
		d.upkeep.after = used // too much, if the commit was not enough: the next look corrects it
	}
	size := backend.Size()
	if waste := size - used; waste > d.upkeep.waste && waste > size/2 || len(full) > 0 && waste > 0 {
		free, err := d.room.free()
		if err == nil && free < uint64(used) {
			return fmt.Errorf("the disk of %s has no room to rewrite the database: %d MB are free, and %d are needed", d.dir, free/1e6, used/1e6)
		}
		if err := etcd.Defragment(); err != nil {
			return fmt.Errorf("give unused room back: %w", err)
		}
		size = backend.Size()
	}
	if size > d.quota/10*9 {
		return nil
	}
	for _, alarm := range full {
		if _, err := etcd.Alarm(ctx, &pb.AlarmRequest{Action: pb.AlarmRequest_DEACTIVATE, MemberID: alarm.MemberID, Alarm: alarm.Alarm}); err != nil {
			return fmt.Errorf("allow writes again: %w", err)
		}
	}
	return nil
}

// settle brings the figures up to date after a compaction, whoever asked for it. Commits do that, and a database that nobody writes to makes
// none: it would seem full of what is gone, and never be made smaller.
func (d *database) settle(first int64, backend backend.Backend) {
	if first != d.upkeep.first {
		d.upkeep.first, d.upkeep.stale = first, commitsToSettle
	}
	if d.upkeep.stale > 0 {
		d.upkeep.stale--
		backend.ForceCommit()
	}
}

// compact throws old revisions away: all of them, or all but the newest.
func (d *database) compact(ctx context.Context, all bool) error {
	etcd := d.running.Server
	revision := etcd.KV().Rev()
	if !all {
		revision -= d.upkeep.revisions
	}
	if revision <= etcd.KV().FirstRev() {
		return nil
	}
	if _, err := etcd.Compact(ctx, &pb.CompactionRequest{Revision: revision, Physical: true}); err != nil {
		return fmt.Errorf("throw revisions before %d away: %w", revision, err)
	}
	return nil
}
