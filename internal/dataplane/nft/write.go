package nft

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"fairway.dev/fairway/internal/model"
)

// blame says which Services the kernel refused.
type blame struct {
	services map[model.Name]error
	err      error
}

func (b *blame) Error() string { return b.err.Error() }
func (b *blame) Unwrap() error { return b.err }

// bulk is how many bytes of messages go into one transaction when there is much to write.
const bulk = 512 << 10

// writeClasses writes the classes that diffs have come to need, before the elements that name them.
func (k *kernel) writeClasses() error {
	var b batch
	for _, t := range k.tables {
		for _, c := range t.unwritten {
			t.writeClass(&b, c, t.classes.number[c])
		}
		t.unwritten = nil
	}
	if b.empty() {
		return nil
	}
	if err := k.commit(&b); err != nil {
		return fmt.Errorf("nftables: write chains: %w", err)
	}
	return k.note()
}

// write carries out changes in one transaction: first what goes, then what comes, so that an address may pass from one Service
// to another.
func (k *kernel) write(changes []change) error {
	if err := k.writeClasses(); err != nil {
		return err
	}
	b := batch{encoder: encoder{b: k.buffer[:0]}}
	defer func() {
		if k.buffer = nil; cap(b.b) <= 4*bulk { // what one very large Service needed is not kept
			k.buffer = b.b
		}
	}()
	var author []model.Name // message → whose it is
	for _, add := range []bool{false, true} {
		kind := uint16(unix.NFT_MSG_DELSETELEM)
		if add {
			kind = unix.NFT_MSG_NEWSETELEM
		}
		for i := range changes {
			k.encode(&b, kind, add, changes[i].ops)
			for len(author) < len(b.from) {
				author = append(author, changes[i].service)
			}
		}
	}
	err := k.commit(&b)
	var bad refusals
	if !errors.As(err, &bad) {
		return err
	}
	guilty := &blame{services: map[model.Name]error{}, err: bad}
	for _, r := range bad {
		if r.message >= 0 && author[r.message] != (model.Name{}) {
			guilty.services[author[r.message]] = fmt.Errorf("service %s: write to nftables: %w", author[r.message], r)
		}
	}
	if len(guilty.services) == 0 && len(changes) == 1 && changes[0].service != (model.Name{}) {
		guilty.services[changes[0].service] = fmt.Errorf("service %s: write to nftables: %w", changes[0].service, bad)
	}
	return guilty
}

// encode puts those ops of one change that add, or those that delete, into the batch, one message a set.
func (k *kernel) encode(b *batch, kind uint16, add bool, ops []op) {
	type target struct {
		f   *family
		set setID
	}
	var order []target
	lists := map[target][]element{}
	for i := range ops {
		if o := &ops[i]; o.add == add {
			t := target{o.family, o.set}
			if _, seen := lists[t]; !seen {
				order = append(order, t)
			}
			lists[t] = append(lists[t], o.element)
		}
	}
	for _, t := range order {
		b.elements(t.f, k.tables[0].table, kind, t.set, lists[t])
	}
}
