package nft

// While a transaction is carried out, nobody else can write nftables, and the kernel keeps the old state beside the new one. So it is bounded, by bulk. What
// many Services need goes into several transactions, each Service whole into one; and a Service that is too large for one by itself comes into
// force in stages, none of which any packet can see the half of:
//
//  1. what is there in its new form replaces the old one, element by element, and what is new comes where nothing leads yet: slots from the old
//     number of backends on;
//  2. in one transaction the switch: the element that leads to the slots gets the new number of backends, and all the rest that decides who is let in;
//  3. what nothing leads to any more goes.
//
// A flow that begins in between gets a backend of the old set or of the new one, of a slot that is there. A process that dies in between leaves such
// a state, and the next one goes on from what it reads back.

// typical is how many bytes one element takes in a message, about.
const typical = 96

// large is how many elements of one Service go into one transaction.
const large = bulk / typical

// address names one element of a set.
type address struct {
	family *family
	set    setID
	key    string
}

// stages splits a change into changes that can come into force one after the other, none but the switch with more than most ops.
func (c *change) stages(most int) []change {
	deleted := map[address]*op{}
	for i := range c.ops {
		if o := &c.ops[i]; !o.add {
			deleted[address{o.family, o.set, string(o.key)}] = o
		}
	}
	// The groups of ops that must stay together, by stage. The two halves of stage 1, and of stage 3, are for affinity: a number that is drawn has its
	// backend at any time.
	var backends, ways, unused, gone [][]op
	var decides []op
	replaced := map[*op]bool{}
	for i := range c.ops {
		o := &c.ops[i]
		if !o.add {
			continue
		}
		together := []op{*o}
		if old := deleted[address{o.family, o.set, string(o.key)}]; old != nil {
			together, replaced[old] = []op{*old, *o}, true
		}
		switch o.set {
		case live, liveOutside:
			backends = append(backends, together)
		case slots, draws, hairpins:
			ways = append(ways, together)
		default:
			decides = append(decides, together...)
		}
	}
	for i := range c.ops {
		o := &c.ops[i]
		if o.add || replaced[o] {
			continue
		}
		switch o.set {
		case live, liveOutside:
			gone = append(gone, []op{*o})
		case slots, draws, hairpins:
			unused = append(unused, []op{*o})
		default:
			decides = append(decides, *o)
		}
	}
	var out []change
	pack := func(groups [][]op) {
		var ops []op
		for _, g := range groups {
			if len(ops)+len(g) > most {
				out, ops = append(out, change{c.service, ops}), nil
			}
			ops = append(ops, g...)
		}
		if len(ops) > 0 {
			out = append(out, change{c.service, ops})
		}
	}
	pack(backends)
	pack(ways)
	if len(decides) > 0 {
		out = append(out, change{c.service, decides})
	}
	pack(unused)
	pack(gone)
	return out
}
