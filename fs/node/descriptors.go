package node

import (
	"os"
	"path"
	"strconv"
	"time"
)

const (
	// maxDescriptors is how many descriptors of a process are looked at. Looking
	// at one takes about a microsecond of its close(2).
	maxDescriptors = 256
	// descriptorsWait bounds the look.
	descriptorsWait = 5 * time.Millisecond
)

// lastDescriptor reports whether the process that calls close(2) has no other
// descriptor of the file at name. The one it closes is out of its table by
// then. false is also that it is not known.
//
// A process in execve(2), which closes files too, lets nobody look at its table
// before it is through, and it is not before its FLUSH is answered. So the look
// is taken aside; one that was given up ends when the caller has its answer.
func lastDescriptor(pid int, name string) bool {
	answer := make(chan bool, 1)
	go func() { answer <- lookForDescriptor(pid, name) }()
	wait := time.NewTimer(descriptorsWait)
	defer wait.Stop()
	select {
	case last := <-answer:
		return last
	case <-wait.C:
		return false
	}
}

func lookForDescriptor(pid int, name string) bool {
	dir := "/proc/" + strconv.Itoa(pid) + "/fd"
	table, err := os.Open(dir)
	if err != nil {
		return false
	}
	defer table.Close()
	list, _ := table.Readdirnames(maxDescriptors + 1)
	// Of a process that ends the table is gone. Who else has its files, the
	// shell that started it for example, is not known.
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
