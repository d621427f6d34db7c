// Package hostdns makes the machine itself resolve the cluster's names, and takes that back.
//
// Contract. Apply changes the machine's resolver in one of two ways. With systemd-resolved, the link that carries the node's addresses gets the node's DNS server,
// for the cluster's domain alone; it is a setting of the link, so it goes with the link, whatever happened to the process. With resolv.conf, a block of lines between
// two marks is put on top of the file; everything else in it stays, also what others write later. Undo may be called at any time, also after a crash or a reboot: it
// needs no record but the link and the marks. Neither touches a file that is a link to another program's.
//
// To debug: `resolvectl status`, `cat /etc/resolv.conf`. To test: files of one's own for resolv.conf; systemd-resolved on a bus of its own.
package hostdns
