// Package integration tests the hfmount program as people use it: as a
// subprocess, mounting through the kernel, against a Hub in the test's own
// process. It needs /dev/fuse; where that is missing it fails.
package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// binary is the program under test.
var binary string

// roles are what this program does instead of tests when HFMOUNT_TEST_ROLE
// names one: processes that work on a mount.
var roles = map[string]func(args []string) int{}

func TestMain(m *testing.M) {
	if role := roles[os.Getenv("HFMOUNT_TEST_ROLE")]; role != nil {
		os.Exit(role(os.Args[1:]))
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0); err != nil {
		fmt.Fprintf(os.Stderr, "integration: %v (the tests mount; as root: chmod 0666 /dev/fuse)\n", err)
		return 1
	} else {
		f.Close()
	}
	// What the person has set up for the real Hub must not leak into the tests.
	for _, name := range []string{"HF_ENDPOINT", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH",
		"HF_HUB_OFFLINE", "HF_HUB_CACHE", "HF_HUB_DISABLE_IMPLICIT_TOKEN"} {
		os.Unsetenv(name)
	}
	binary = os.Getenv("HFMOUNT_TEST_BINARY")
	if binary == "" {
		dir, err := os.MkdirTemp("", "hfmount-bin")
		if err != nil {
			fmt.Fprintln(os.Stderr, "integration:", err)
			return 1
		}
		defer os.RemoveAll(dir)
		binary = filepath.Join(dir, "hfmount")
		build := exec.Command("go", "build", "-o", binary, "hfmount/cmd/hfmount")
		build.Stderr = os.Stderr
		if err := build.Run(); err != nil {
			fmt.Fprintln(os.Stderr, "integration: go build:", err)
			return 1
		}
	}
	return m.Run()
}
