package writeback

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"hfmount/writeback/journal"
	"hfmount/writeback/staging"
)

// A layer is a folder named by a hash of its key:
//
//	key.json   the key, for people and for recover
//	lock       locked by the process that serves it, with its pid and owner
//	journal    package journal
//	staging/   package staging
//	lost/      staging files that a damaged journal may have named

// layerDir is the folder of a key.
func layerDir(stateDir string, k Key) string {
	k.Ref.Revision = k.Ref.Rev()
	raw, _ := json.Marshal(k) // strings and numbers only
	sum := sha256.Sum256(raw)
	return filepath.Join(stateDir, hex.EncodeToString(sum[:12]))
}

// lockWait is how long a lock is tried for: whoever counts the changes of all
// layers has each for a moment.
const lockWait = 500 * time.Millisecond

// lockDir makes the folder and locks it. The lock ends with the file, or the
// process.
func lockDir(dir, owner string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(lockWait); ; time.Sleep(10 * time.Millisecond) {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil || err != unix.EWOULDBLOCK && err != unix.EINTR || time.Now().After(deadline) {
			break
		}
	}
	switch {
	case err == unix.EWOULDBLOCK:
		pid, who := readLock(dir)
		_ = f.Close()
		return nil, fmt.Errorf("%w%s", ErrLocked, describeOwner(pid, who))
	case err != nil:
		_ = f.Close()
		return nil, &os.PathError{Op: "flock", Path: f.Name(), Err: err}
	}
	if err = f.Truncate(0); err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"+owner+"\n"), 0)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// readLock says who has the lock, as far as it is known.
func readLock(dir string) (pid int, owner string) {
	raw, err := os.ReadFile(filepath.Join(dir, "lock"))
	if err != nil {
		return 0, ""
	}
	first, rest, _ := strings.Cut(string(raw), "\n")
	pid, _ = strconv.Atoi(first)
	return pid, strings.TrimSuffix(rest, "\n")
}

func describeOwner(pid int, owner string) string {
	switch {
	case pid == 0:
		return ""
	case owner == "":
		return fmt.Sprintf(" (pid %d)", pid)
	}
	return fmt.Sprintf(" (pid %d, %s)", pid, owner)
}

// writeKey leaves the key beside the journal, or checks the one that is there.
func writeKey(dir string, k Key) error {
	name := filepath.Join(dir, "key.json")
	have, err := readKey(dir)
	switch {
	case err == nil && layerDir("", have) == layerDir("", k):
		return nil
	case err == nil:
		return fmt.Errorf("%s belongs to %s at %s", dir, have.Ref.Repo, have.Ref.Rev())
	case !errors.Is(err, iofs.ErrNotExist):
		return err
	}
	raw, err := json.MarshalIndent(k, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(name+".tmp", append(raw, '\n'), 0o600); err != nil {
		return err
	}
	if err := os.Rename(name+".tmp", name); err != nil {
		return err
	}
	// The folder is new: what is synced in it later must be found.
	for _, d := range []string{filepath.Dir(dir), dir} {
		if err := (journal.OS{}).SyncDir(d); err != nil {
			return err
		}
	}
	return nil
}

func readKey(dir string) (Key, error) {
	var k Key
	raw, err := os.ReadFile(filepath.Join(dir, "key.json"))
	if err != nil {
		return k, err
	}
	if err := json.Unmarshal(raw, &k); err != nil {
		return k, fmt.Errorf("%s: %w", filepath.Join(dir, "key.json"), err)
	}
	return k, nil
}

// Found is a layer in a state folder.
type Found struct {
	Key    Key
	Dir    string
	Locked bool   // a process serves it: ask that one about the changes
	PID    int    // of that process
	Owner  string // as it called itself
	// Of a layer that is not locked:
	Changes   int // but local-only ones
	Unclosed  int // of those, what was open when the process died
	LocalOnly int
	Bytes     int64  // staged
	Damage    string // see [Layer.Damage]
	Err       error  // why it cannot be opened
}

// Layers lists the layers in a state folder, oldest first. Each that nobody
// serves is opened, and so replayed, for a moment.
func Layers(stateDir string) ([]Found, error) {
	entries, err := os.ReadDir(stateDir)
	if errors.Is(err, iofs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	type aged struct {
		Found
		t time.Time
	}
	var found []aged
	for _, e := range entries {
		dir := filepath.Join(stateDir, e.Name())
		st, err := os.Stat(filepath.Join(dir, "key.json"))
		if err != nil {
			continue // something else, or a layer that was never used
		}
		f := Found{Dir: dir}
		if f.Key, f.Err = readKey(dir); f.Err == nil {
			f.look(stateDir)
		}
		found = append(found, aged{f, st.ModTime()})
	}
	slices.SortFunc(found, func(a, b aged) int { return a.t.Compare(b.t) })
	out := make([]Found, len(found))
	for i, f := range found {
		out[i] = f.Found
	}
	return out, nil
}

func (f *Found) look(stateDir string) {
	l, err := OpenLayer(LayerOptions{StateDir: stateDir, Key: f.Key, Owner: "counting changes", LocalOnly: NewLocalOnly(LocalOnlyOptions{})})
	if errors.Is(err, ErrLocked) {
		f.Locked = true
		f.PID, f.Owner = readLock(f.Dir)
		return
	} else if err != nil {
		f.Err = err
		return
	}
	for _, c := range l.Under("") {
		switch c.State {
		case LocalOnly:
			f.LocalOnly++
			continue
		case Unclosed:
			f.Unclosed++
		}
		f.Changes++
	}
	f.Bytes, f.Damage = l.staging.Bytes(), l.Damage()
	f.Err = l.Close()
}

// bootID changes with each start of the machine, "" if it is not known.
func bootID() string {
	raw, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(raw))
}

func syncfs(d *os.File) error {
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		return &os.PathError{Op: "syncfs", Path: d.Name(), Err: err}
	}
	return nil
}

// samePrint compares what writing changes. The time of the last change of the
// inode is left out: copying bytes of the base changes it, and giving the file
// another name does.
func samePrint(a, b staging.Print) bool { return a.Size == b.Size && a.Mtime == b.Mtime }
