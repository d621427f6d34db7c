package nft

import (
	"golang.org/x/sys/unix"
)

// element is one element of a set or map.
type element struct {
	key, keyEnd []byte
	value       []byte // of a map
	chain       string // of a verdict map
	comment     string
}

// elements adds or deletes elements of one set, in as many messages as it takes.
func (b *batch) elements(f *family, table string, kind uint16, set setID, es []element) {
	for len(es) > 0 {
		flags := uint16(0)
		if kind == unix.NFT_MSG_NEWSETELEM {
			flags = unix.NLM_F_CREATE
		}
		b.message(kind, flags, f.proto)
		b.str(unix.NFTA_SET_ELEM_LIST_TABLE, table)
		b.str(unix.NFTA_SET_ELEM_LIST_SET, setSpecs[set].name)
		list := b.nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS)
		const most = 512 // bytes of one element: two keys of 64, a chain's name, a comment
		for len(es) > 0 && b.room(list, most) {
			b.element(&es[0])
			es = es[1:]
		}
		b.close(list)
		b.end()
	}
}

func (b *batch) element(e *element) {
	one := b.nest(unix.NFTA_LIST_ELEM)
	data(&b.encoder, unix.NFTA_SET_ELEM_KEY, e.key)
	if e.keyEnd != nil {
		data(&b.encoder, setElemKeyEnd, e.keyEnd)
	}
	switch {
	case e.chain != "":
		at := b.nest(unix.NFTA_SET_ELEM_DATA)
		verdictData(&b.encoder, goTo, e.chain)
		b.close(at)
	case e.value != nil:
		data(&b.encoder, unix.NFTA_SET_ELEM_DATA, e.value)
	}
	b.comment(unix.NFTA_SET_ELEM_USERDATA, e.comment)
	b.close(one)
}

const setElemKeyEnd = 10 // NFTA_SET_ELEM_KEY_END

// readElements gives every element of a set, without the verdicts.
func (c *conn) readElements(f *family, table string, set setID, each func(element)) error {
	return c.get(unix.NFT_MSG_GETSETELEM, unix.NLM_F_DUMP, f.proto, func(e *encoder) {
		e.str(unix.NFTA_SET_ELEM_LIST_TABLE, table)
		e.str(unix.NFTA_SET_ELEM_LIST_SET, setSpecs[set].name)
	}, func(a []byte) {
		for kind, one := range attrs(attr(a, unix.NFTA_SET_ELEM_LIST_ELEMENTS)) {
			if kind != unix.NFTA_LIST_ELEM {
				continue
			}
			var e element
			for k, v := range attrs(one) {
				switch k {
				case unix.NFTA_SET_ELEM_KEY:
					e.key = attr(v, unix.NFTA_DATA_VALUE)
				case setElemKeyEnd:
					e.keyEnd = attr(v, unix.NFTA_DATA_VALUE)
				case unix.NFTA_SET_ELEM_DATA:
					e.value = attr(v, unix.NFTA_DATA_VALUE)
				case unix.NFTA_SET_ELEM_USERDATA:
					e.comment = commentOf(v)
				}
			}
			each(e)
		}
	})
}
