// Package joint lets the storage of one kind of object write keys of another kind in the same etcd transaction, so that either all of
// it is stored or nothing: there is no moment between two writes at which a crash could leave one without the other.
//
// Upstream's storage knows only transactions of one key. Between it and etcd is a small interface (etcd's client/v3/kubernetes) with
// two writing methods, and the request's context goes through all of it. So the layer above puts a Writes into the context and fills
// it, and Client, the implementation of that interface, makes what it finds there part of the transaction.
package joint

import (
	"context"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	etcd "go.etcd.io/etcd/client/v3/kubernetes"
)

// Entry is a key and its value.
type Entry struct {
	Key   string
	Value []byte
}

// Writes is what goes with the next write of a request. Whoever put it into the context may change it until then, between the
// attempts of one write too; it is not safe for use by several goroutines.
type Writes struct {
	// Create are keys that must not exist yet.
	Create []Entry
	// Delete are keys to remove, if they exist.
	Delete []string
}

// ExistsError tells that nothing was written because a key of Writes.Create exists.
type ExistsError struct{ Key string }

func (e *ExistsError) Error() string { return fmt.Sprintf("%s exists already", e.Key) }

type contextKey struct{}

// With returns a context whose next write takes the Writes along.
func With(ctx context.Context, w *Writes) context.Context {
	return context.WithValue(ctx, contextKey{}, w)
}

// Client makes a client that takes Writes along, and is in everything else the one that is given.
func Client(plain *clientv3.Client) *etcd.Client {
	c := &etcd.Client{Client: plain}
	c.Kubernetes = client{*c}
	return c
}

// client overrides the two methods that write.
type client struct{ etcd.Client }

// OptimisticPut implements etcd.Interface.
func (c client) OptimisticPut(ctx context.Context, key string, value []byte, expected int64, opts etcd.PutOptions) (etcd.PutResponse, error) {
	w := among(ctx)
	if w == nil {
		return c.Client.OptimisticPut(ctx, key, value, expected, opts)
	}
	put := clientv3.OpPut(key, string(value), clientv3.WithLease(opts.LeaseID))
	out, err := c.commit(ctx, key, expected, put, w)
	return etcd.PutResponse{KV: out.found, Succeeded: out.succeeded, Revision: out.revision}, err
}

// OptimisticDelete implements etcd.Interface.
func (c client) OptimisticDelete(ctx context.Context, key string, expected int64, opts etcd.DeleteOptions) (etcd.DeleteResponse, error) {
	w := among(ctx)
	if w == nil {
		return c.Client.OptimisticDelete(ctx, key, expected, opts)
	}
	out, err := c.commit(ctx, key, expected, clientv3.OpDelete(key), w)
	return etcd.DeleteResponse{KV: out.found, Succeeded: out.succeeded, Revision: out.revision}, err
}

func among(ctx context.Context) *Writes {
	w, _ := ctx.Value(contextKey{}).(*Writes)
	if w == nil || len(w.Create) == 0 && len(w.Delete) == 0 {
		return nil
	}
	return w
}

// CreateIf creates a key on condition that another one is still at a revision, and reports whether it did.
func CreateIf(ctx context.Context, c *etcd.Client, other string, revision int64, entry Entry) (bool, error) {
	response, err := c.KV.Txn(ctx).If(
		clientv3.Compare(clientv3.ModRevision(other), "=", revision),
		clientv3.Compare(clientv3.CreateRevision(entry.Key), "=", 0),
	).Then(clientv3.OpPut(entry.Key, string(entry.Value))).Commit()
	if err != nil {
		return false, err
	}
	return response.Succeeded, nil
}

type outcome struct {
	succeeded bool
	revision  int64
	found     *mvccpb.KeyValue // what is there instead, if it did not succeed
}

// commit writes everything if key is as expected and no key to create exists.
func (c client) commit(ctx context.Context, key string, expected int64, write clientv3.Op, w *Writes) (outcome, error) {
	conditions := []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(key), "=", expected)}
	writes, reads := []clientv3.Op{write}, []clientv3.Op{clientv3.OpGet(key)}
	for _, entry := range w.Create {
		conditions = append(conditions, clientv3.Compare(clientv3.CreateRevision(entry.Key), "=", 0))
		writes = append(writes, clientv3.OpPut(entry.Key, string(entry.Value)))
		reads = append(reads, clientv3.OpGet(entry.Key, clientv3.WithCountOnly()))
	}
	for _, gone := range w.Delete {
		writes = append(writes, clientv3.OpDelete(gone))
	}
	response, err := c.KV.Txn(ctx).If(conditions...).Then(writes...).Else(reads...).Commit()
	if err != nil {
		return outcome{}, err
	}
	out := outcome{succeeded: response.Succeeded, revision: response.Header.Revision}
	if out.succeeded {
		return out, nil
	}
	var actual int64
	if kvs := response.Responses[0].GetResponseRange().Kvs; len(kvs) == 1 {
		out.found, actual = kvs[0], kvs[0].ModRevision
	}
	if actual != expected { // the caller sees what is there and may try again
		return out, nil
	}
	for i, entry := range w.Create {
		if response.Responses[i+1].GetResponseRange().Count > 0 {
			return out, &ExistsError{entry.Key}
		}
	}
	return out, fmt.Errorf("write %s: etcd refused a transaction whose conditions hold", key)
}
