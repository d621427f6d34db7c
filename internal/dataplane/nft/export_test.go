package nft

// SetLayout makes a Dataplane write another layout than this version's, as an older or a newer one does. Call it before Run.
func (d *Dataplane) SetLayout(s string) { d.layout = layoutMark + s }

// Layout is what a table has now, of this package's; "" is no table.
func Layout(table string) (string, error) {
	c, err := dial()
	if err != nil {
		return "", err
	}
	defer c.close()
	return c.layoutOf(ipv4, table)
}

// ThisLayout is that of this version.
const ThisLayout = layout

// SetMost has a frontend take that many backends for each kind of client at most.
func (d *Dataplane) SetMost(n int) { d.most = n }
