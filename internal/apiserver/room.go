package apiserver

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"golang.org/x/sys/unix"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/storage"
)

// etcd takes room ahead of need, a segment of its log and a step of its file at a time, and gives up for good when it gets none. So writes
// are refused while there still is some, and what makes room a little longer.
const (
	roomForWrites  = 64 << 20
	roomForDeletes = 32 << 20
)

// reasonNoRoom is the reason of refused writes, with the HTTP status of the same name.
const reasonNoRoom metav1.StatusReason = "InsufficientStorage"

// room watches over the disk that the data is on.
type room struct {
	dir     string
	writes  uint64 // bytes that must be free for a write
	deletes uint64
}

// free is what root may still write, in bytes.
func (r *room) free() (uint64, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(r.dir, &fs); err != nil {
		return 0, err
	}
	return fs.Bfree * uint64(fs.Bsize), nil
}

// check refuses what needs that much to be free. A disk that cannot be asked refuses nothing: etcd will see for itself.
func (r *room) check(need uint64) error {
	free, err := r.free()
	if err != nil || free >= need {
		return nil
	}
	return noRoom(fmt.Sprintf("the disk of %s has only %d MB left; make room there (%d MB are needed), and writing works again by itself", r.dir, free/1e6, r.writes/1e6))
}

func noRoom(message string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: http.StatusInsufficientStorage, Reason: reasonNoRoom, Message: message}}
}

// guarded is a storage that writes only while there is room. Reading always works.
type guarded struct {
	storage.Interface
	room  *room
	quota int64
}

// Create implements storage.Interface.
func (g guarded) Create(ctx context.Context, key string, obj, out runtime.Object, ttl uint64) error {
	if err := g.room.check(g.room.writes); err != nil {
		return err
	}
	return g.explain(g.Interface.Create(ctx, key, obj, out, ttl))
}

// Delete implements storage.Interface.
func (g guarded) Delete(ctx context.Context, key string, out runtime.Object, preconditions *storage.Preconditions,
	validate storage.ValidateObjectFunc, cached runtime.Object, options storage.DeleteOptions,
) error {
	if err := g.room.check(g.room.deletes); err != nil {
		return err
	}
	return g.explain(g.Interface.Delete(ctx, key, out, preconditions, validate, cached, options))
}

// GuaranteedUpdate implements storage.Interface.
func (g guarded) GuaranteedUpdate(ctx context.Context, key string, destination runtime.Object, ignoreNotFound bool,
	preconditions *storage.Preconditions, update storage.UpdateFunc, cached runtime.Object,
) error {
	if err := g.room.check(g.room.writes); err != nil {
		return err
	}
	return g.explain(g.Interface.GuaranteedUpdate(ctx, key, destination, ignoreNotFound, preconditions, update, cached))
}

// explain makes one clear error of etcd's about its own limit.
func (g guarded) explain(err error) error {
	if err != nil && errors.Is(rpctypes.Error(err), rpctypes.ErrNoSpace) {
		return noRoom(fmt.Sprintf("the database in %s has reached its limit of %d MB; delete what is not needed, and writing works again by itself within %v", g.room.dir, g.quota/1e6, 2*upkeepEvery))
	}
	return err
}
