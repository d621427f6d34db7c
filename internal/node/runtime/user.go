package runtime

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// ResolveUser turns the user of an image configuration, "user[:group]" by name or number, into numbers by the image's own
// /etc/passwd and /etc/group. An empty user is root.
func ResolveUser(rootfs, user string) (User, error) {
	name, group, hasGroup := strings.Cut(user, ":")
	var u User
	if name == "" {
		name = "0"
	}
	entry := lookup(rootfs, "etc/passwd", name, 2)
	switch id, err := strconv.ParseUint(name, 10, 32); {
	case len(entry) > 3:
		uid, errUID := strconv.ParseUint(entry[2], 10, 32)
		gid, errGID := strconv.ParseUint(entry[3], 10, 32)
		if errUID != nil || errGID != nil {
			return u, fmt.Errorf("user %q: the image's /etc/passwd has no number for it", name)
		}
		u.UID, u.GID = uint32(uid), uint32(gid)
	case err == nil:
		u.UID = uint32(id)
	default:
		return u, fmt.Errorf("user %q: not in the image's /etc/passwd", name)
	}
	if !hasGroup {
		return u, nil
	}
	if entry := lookup(rootfs, "etc/group", group, 2); len(entry) > 2 {
		group = entry[2]
	}
	gid, err := strconv.ParseUint(group, 10, 32)
	if err != nil {
		return u, fmt.Errorf("group %q: not in the image's /etc/group", group)
	}
	u.GID = uint32(gid)
	return u, nil
}

// lookup returns the fields of the line whose first field, or whose field number id, is key.
func lookup(rootfs, file, key string, id int) []string {
	root, err := os.OpenRoot(rootfs) // an image must not lead the search to the machine's own files
	if err != nil {
		return nil
	}
	defer root.Close()
	data, err := root.ReadFile(file)
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(data)) {
		fields := strings.Split(strings.TrimRight(line, "\n"), ":")
		if fields[0] == key || len(fields) > id && fields[id] == key {
			return fields
		}
	}
	return nil
}
