package node

import (
	"os"
	"path"
	"strconv"
)

// maxDescriptors is how many descriptors of a process are looked at. Looking
// at one takes about a microsecond of its close(2).
const maxDescriptors = 256

// lastDescriptor reports whether the caller of a close(2), a thread as in
// dying, has no other descriptor of the file at name. The one it closes is out
// of its table by then. Of a process that ends the table is gone, and who else
// has its files, the shell that started it for example, is not known: false.
func lastDescriptor(pid uint32, name string) bool {
	if pid == 0 {
		return false
	}
	dir := "/proc/" + strconv.FormatUint(uint64(pid), 10) + "/fd"
	table, err := os.Open(dir)
	if err != nil {
		return false
	}
	defer table.Close()
	list, _ := table.Readdirnames(maxDescriptors + 1)
	if len(list) == 0 || len(list) > maxDescriptors {
		return false
	}
	name = path.Base(name)
	for _, fd := range list {
		// The link is the path as the kernel has it; the mount is not asked.
		if to, err := os.Readlink(dir + "/" + fd); err == nil && path.Base(to) == name {
			return false
		}
	}
	return true
}
