package service

import (
	"math/bits"
	"math/rand/v2"
)

// pool hands out the numbers 0 to size-1. The first band numbers are handed out last.
type pool struct {
	size, band uint64
	used       numberSet
}

// find picks a number that is neither used nor in except: from a random start in the upper part to its end, from its
// beginning to that start, and then in the static band the same way. It does not take it. ok is false if there is none.
func (p *pool) find(except map[uint64]bool) (n uint64, ok bool) {
	for _, part := range [][2]uint64{{p.band, p.size}, {0, p.band}} {
		if part[0] >= part[1] {
			continue
		}
		start := part[0] + rand.Uint64N(part[1]-part[0])
		for _, stretch := range [][2]uint64{{start, part[1]}, {part[0], start}} {
			for from := stretch[0]; ; {
				n, ok := p.used.firstFree(from, stretch[1])
				if !ok {
					break
				}
				if !except[n] {
					return n, true
				}
				from = n + 1
			}
		}
	}
	return 0, false
}

// staticBand is the number of entries at the low end of a range of that size which are handed out last:
// min(max(16, size/step), most), and none if the range has no more than 16 (KEP-3070 for addresses, where the size counts all
// addresses of the prefix, KEP-3668 for ports).
func staticBand(size, step, most uint64) uint64 {
	if size <= 16 {
		return 0
	}
	return min(max(16, size/step), most)
}

const (
	pageBits = 4096
	pageSize = pageBits / 64
)

// numberSet is a set of numbers up to 2^64-1, as a bitmap whose pages exist only where a number is in it.
type numberSet struct {
	pages map[uint64]*page
}

type page struct {
	count int
	words [pageSize]uint64
}

func (s *numberSet) has(n uint64) bool {
	p := s.pages[n/pageBits]
	return p != nil && p.words[n%pageBits/64]&(1<<(n%64)) != 0
}

// add reports whether n was new.
func (s *numberSet) add(n uint64) bool {
	if s.has(n) {
		return false
	}
	if s.pages == nil {
		s.pages = make(map[uint64]*page)
	}
	p := s.pages[n/pageBits]
	if p == nil {
		p = new(page)
		s.pages[n/pageBits] = p
	}
	p.words[n%pageBits/64] |= 1 << (n % 64)
	p.count++
	return true
}

// remove reports whether n was there.
func (s *numberSet) remove(n uint64) bool {
	if !s.has(n) {
		return false
	}
	p := s.pages[n/pageBits]
	p.words[n%pageBits/64] &^= 1 << (n % 64)
	if p.count--; p.count == 0 {
		delete(s.pages, n/pageBits)
	}
	return true
}

// firstFree is the lowest number from from up to, not including, to that is not in the set. Full pages are skipped as
// a whole: the worst case is one step per 4,096 numbers in use.
func (s *numberSet) firstFree(from, to uint64) (uint64, bool) {
	for n := from; n < to; {
		p := s.pages[n/pageBits]
		if p == nil {
			return n, true
		}
		if p.count < pageBits {
			for word := n % pageBits / 64; word < pageSize; word++ {
				free := ^p.words[word]
				if word == n%pageBits/64 {
					free &= ^uint64(0) << (n % 64)
				}
				if free != 0 {
					found := n/pageBits*pageBits + word*64 + uint64(bits.TrailingZeros64(free))
					return found, found < to
				}
			}
		}
		next := (n/pageBits + 1) * pageBits
		if next <= n { // the last page of all
			return 0, false
		}
		n = next
	}
	return 0, false
}
