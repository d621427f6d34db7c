package apiserver

import (
	"context"
	"strings"
	"sync"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// fault is what happens to one write.
type fault int

const (
	lostRequest fault = iota // etcd never sees it, the API server hears of a timeout
	lostAnswer               // etcd stores it, the API server hears of a timeout
	conflict                 // somebody else's write to the same object is a moment faster
	killed                   // etcd stores it, and something happens before anybody hears of it
)

// faultInjector lets something happen to the nth write of Services, IPAddress objects or ServiceCIDRs, counted from when it is armed.
type faultInjector struct {
	kill func()

	mu    sync.Mutex
	armed bool
	left  int
	what  fault
	hit   bool
}

func (f *faultInjector) arm(n int, what fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.armed, f.left, f.what, f.hit = true, n, what, false
}

// disarm reports whether something has happened.
func (f *faultInjector) disarm() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.armed = false
	return f.hit
}

// next counts a write, and tells what happens to it.
func (f *faultInjector) next() (what fault, now bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.armed {
		return 0, false
	}
	f.left--
	f.hit = f.hit || f.left == 0
	return f.what, f.left == 0
}

// between puts the faults between the API server and etcd.
func (f *faultInjector) between(kv clientv3.KV) clientv3.KV { return faultyKV{kv, f} }

type faultyKV struct {
	clientv3.KV
	faults *faultInjector
}

func (kv faultyKV) Txn(ctx context.Context) clientv3.Txn {
	return &faultyTxn{Txn: kv.KV.Txn(ctx), kv: kv}
}

type faultyTxn struct {
	clientv3.Txn
	kv   faultyKV
	keys []string
}

func (t *faultyTxn) If(c ...clientv3.Cmp) clientv3.Txn { t.Txn = t.Txn.If(c...); return t }
func (t *faultyTxn) Else(o ...clientv3.Op) clientv3.Txn {
	t.Txn = t.Txn.Else(o...)
	return t
}

func (t *faultyTxn) Then(ops ...clientv3.Op) clientv3.Txn {
	for _, op := range ops {
		if key := string(op.KeyBytes()); op.IsPut() || op.IsDelete() {
			for _, prefix := range []string{"/registry/services/", "/registry/networking.k8s.io/ipaddresses/", "/registry/networking.k8s.io/servicecidrs/"} {
				if strings.HasPrefix(key, prefix) {
					t.keys = append(t.keys, key)
				}
			}
		}
	}
	t.Txn = t.Txn.Then(ops...)
	return t
}

func (t *faultyTxn) Commit() (*clientv3.TxnResponse, error) {
	if len(t.keys) == 0 {
		return t.Txn.Commit()
	}
	what, now := t.kv.faults.next()
	if !now {
		return t.Txn.Commit()
	}
	switch what {
	case lostRequest:
		return nil, rpctypes.ErrTimeout
	case conflict:
		if err := t.kv.touch(t.keys[0]); err != nil {
			return nil, err
		}
		return t.Txn.Commit()
	}
	response, err := t.Txn.Commit()
	if what == killed && err == nil {
		t.kv.faults.kill()
	}
	if err == nil {
		err = rpctypes.ErrTimeout
	}
	return response, err
}

// touch writes an object as it is, if it is there: its revision is another one then.
func (kv faultyKV) touch(key string) error {
	have, err := kv.Get(context.Background(), key)
	if err != nil || len(have.Kvs) == 0 {
		return err
	}
	_, err = kv.Put(context.Background(), key, string(have.Kvs[0].Value))
	return err
}
