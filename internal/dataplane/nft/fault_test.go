package nft

import (
	"encoding/binary"
	"math/rand/v2"
	"sync"

	"golang.org/x/sys/unix"
)

// faulty is a netlink socket on which one call fails each time that it was armed.
type faulty struct {
	socket
	mu    sync.Mutex
	r     *rand.Rand
	armed int // how many calls are to fail
	deaf  bool
	torn  bool
	count map[string]int // faults that happened, by kind
}

// arm makes one of the next calls fail.
func (f *faulty) arm() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.armed++
}

func (f *faulty) send(b []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.armed == 0 || f.r.IntN(3) == 0 {
		return f.socket.send(b)
	}
	f.armed--
	batch := binary.NativeEndian.Uint16(b[4:]) == unix.NFNL_MSG_BATCH_BEGIN
	switch kind := f.r.IntN(3); {
	case kind == 0: // it never gets there
		f.count["not sent"]++
		return unix.ENOBUFS
	case kind == 1 && batch: // the kernel refuses one message, and the whole transaction with it
		f.count["refused"]++
		return f.socket.send(f.spoil(b))
	case kind == 2 && !batch: // the list changes while it is read
		f.count["torn"]++
		f.torn = true
	default: // it gets there, and is carried out, but nobody says so
		f.count["not answered"]++
		f.deaf = true
	}
	return f.socket.send(b)
}

// spoil names a set that there is not, in one message of a batch.
func (f *faulty) spoil(b []byte) []byte {
	b = append([]byte(nil), b...)
	var names [][]byte
	for at := 0; at+unix.SizeofNlMsghdr <= len(b); at += int(binary.NativeEndian.Uint32(b[at:])+3) &^ 3 {
		switch binary.NativeEndian.Uint16(b[at+4:]) {
		case subsystem(unix.NFT_MSG_NEWSETELEM), subsystem(unix.NFT_MSG_DELSETELEM):
			end := at + int(binary.NativeEndian.Uint32(b[at:]))
			names = append(names, attr(b[at+unix.SizeofNlMsghdr+4:end], unix.NFTA_SET_ELEM_LIST_SET))
		}
	}
	if len(names) > 0 {
		names[f.r.IntN(len(names))][0] = '?'
	}
	return b
}

func (f *faulty) receive(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.deaf {
		f.deaf = false // what was not heard comes before the next answer
		return 0, unix.EAGAIN
	}
	n, err := f.socket.receive(b)
	if f.torn && err == nil {
		f.torn = false
		flags := binary.NativeEndian.Uint16(b[6:])
		binary.NativeEndian.PutUint16(b[6:], flags|unix.NLM_F_DUMP_INTR)
	}
	return n, err
}
