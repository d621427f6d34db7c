package service

import (
	"math/rand/v2"
	"testing"
)

func TestStaticBand(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		what             string
		size, step, most uint64
		want             uint64
	}{
		// KEP-3070: min(max(16, size/16), 256) addresses
		{"/29", 8, 16, 256, 0},
		{"/28", 16, 16, 256, 0},
		{"/27", 32, 16, 256, 16},
		{"/24", 256, 16, 256, 16},
		{"/23", 512, 16, 256, 32},
		{"/20", 4096, 16, 256, 256},
		{"/12", 1 << 20, 16, 256, 256},
		// KEP-3668: min(max(16, size/32), 128) ports
		{"30000-32767", 2768, 32, 128, 86},
		{"30000-30015", 16, 32, 128, 0},
		{"30000-30199", 200, 32, 128, 16},
		{"1000-65535", 64536, 32, 128, 128},
	} {
		if got := staticBand(test.size, test.step, test.most); got != test.want {
			t.Errorf("%s: static band of %d, want %d", test.what, got, test.want)
		}
	}
}

// Every number is given out once, those of the static band last, and then the pool is empty.
func TestPoolGivesOutEverythingOnce(t *testing.T) {
	t.Parallel()
	for _, p := range []*pool{{size: 6}, {size: 254, band: 16}, {size: 3*pageBits + 5, band: 128}} {
		for i := range p.size {
			n, ok := p.find(nil)
			if !ok || n >= p.size {
				t.Fatalf("size %d: find number %d: %d, %v", p.size, i, n, ok)
			}
			if upper := i < p.size-p.band; upper != (n >= p.band) {
				t.Fatalf("size %d, band %d: number %d of all is %d", p.size, p.band, i, n)
			}
			if !p.used.add(n) {
				t.Fatalf("size %d: %d was given out twice", p.size, n)
			}
		}
		if n, ok := p.find(nil); ok {
			t.Errorf("size %d: all is used, and yet %d is free", p.size, n)
		}
		p.used.remove(p.size - 1)
		if n, ok := p.find(nil); !ok || n != p.size-1 {
			t.Errorf("size %d: only the last one is free: got %d, %v", p.size, n, ok)
		}
		if n, ok := p.find(map[uint64]bool{p.size - 1: true}); ok {
			t.Errorf("size %d: nothing but an exception is free: got %d", p.size, n)
		}
	}
}

// A random history of a set over a few pages agrees with a plain map.
func TestNumberSetAgreesWithMap(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	var s numberSet
	want := make(map[uint64]bool)
	bases := []uint64{0, pageBits - 64, 1 << 40, ^uint64(0) - 200}
	for i := range 200_000 {
		n := bases[random.IntN(len(bases))] + random.Uint64N(200)
		switch random.IntN(3) {
		case 0, 1:
			if s.add(n) == want[n] {
				t.Fatalf("step %d: add %d: newness differs", i, n)
			}
			want[n] = true
		default:
			if s.remove(n) != want[n] {
				t.Fatalf("step %d: remove %d: presence differs", i, n)
			}
			delete(want, n)
		}
		to := n + random.Uint64N(150)
		if to < n {
			to = ^uint64(0)
		}
		free, found := n, false
		for ; free < to && !found; free++ {
			found = !want[free]
		}
		got, ok := s.firstFree(n, to)
		if ok != found || ok && got != free-1 {
			t.Fatalf("step %d: first free of [%d, %d): got %d, %v, want %d, %v", i, n, to, got, ok, free-1, found)
		}
	}
}

// Only its owner can free something, and a repair frees what nobody vouches for, except what is on its way.
func TestLedger(t *testing.T) {
	t.Parallel()
	used := make(map[int32]bool)
	l := newLedger(func(k int32, is bool) { used[k] = is })
	mine, others := holder{uid: "mine"}, holder{uid: "others"}
	l.hold(1, mine, false)
	l.free(1, others.uid)
	if l.hold(1, others, false) {
		t.Fatal("a port was freed by somebody who did not own it")
	}
	l.free(1, mine.uid)
	l.free(1, mine.uid)
	if !l.hold(1, others, false) {
		t.Fatal("a freed port cannot be taken")
	}
	l.free(1, mine.uid) // a second report of the same deletion
	if l.hold(1, mine, false) {
		t.Fatal("a late second deletion freed the next owner's port")
	}

	l.hold(2, mine, false) // its Service is not in the store
	l.hold(3, mine, false) // its Service is
	l.hold(4, mine, true)  // its write is under way
	l.hold(5, mine, false) // freed and taken by another during the repair
	l.hold(6, mine, true)  // its write ends during the repair
	l.hold(8, mine, false) // its Service is not in the store, but another one that claims the port
	l.suspectAll()
	l.hold(7, mine, true) // begun during the repair
	l.free(5, mine.uid)
	l.hold(5, others, false)
	l.settle(6, mine.uid)
	l.clear(1, others.uid)
	l.clear(3, mine.uid)
	l.clear(8, others.uid)
	if freed := l.freeSuspects(); freed != 2 {
		t.Errorf("the repair freed %d ports, want 2", freed)
	}
	for n := int32(1); n <= 8; n++ {
		if used[n] == (n == 2 || n == 8) {
			t.Errorf("after the repair, %d is used: %v", n, used[n])
		}
	}
}

// The cost of an allocation must not depend on the number of Services.
func BenchmarkPool(b *testing.B) {
	for name, present := range map[string]int{"1k": 1_000, "1M": 1_000_000} {
		b.Run(name, func(b *testing.B) {
			p := pool{size: 1<<20 - 2, band: 256}
			for range present {
				n, _ := p.find(nil)
				p.used.add(n)
			}
			for b.Loop() {
				n, _ := p.find(nil)
				p.used.add(n)
				p.used.remove(n)
			}
		})
	}
}
