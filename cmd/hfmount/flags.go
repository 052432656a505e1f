package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"
)

// sizeValue is a flag value in bytes, written as people write sizes. The zero
// value with auto set shows auto until something is set.
type sizeValue struct {
	n    int64
	auto string
	rate bool // "/s" may follow
}

// Set reads "512M", "10GiB", "100MB/s" (where rate), or plain bytes.
func (v *sizeValue) Set(s string) error {
	if v.rate {
		s = strings.TrimSuffix(s, "/s")
	}
	n, err := parseSize(s)
	if err != nil {
		return err
	}
	v.n, v.auto = n, ""
	return nil
}

func (v *sizeValue) String() string {
	switch {
	case v == nil:
		return ""
	case v.auto != "":
		return v.auto
	case v.n == 0:
		return "0"
	}
	s := strings.ReplaceAll(humanize.Bytes(uint64(v.n)), " ", "")
	if v.rate {
		s += "/s"
	}
	return s
}

func parseSize(s string) (int64, error) {
	n, err := humanize.ParseBytes(s)
	if err != nil || n > 1<<62 || strings.HasPrefix(strings.TrimSpace(s), "-") {
		return 0, fmt.Errorf("%q is not a size; write it like 512M, 10GiB or 0", s)
	}
	return int64(n), nil
}

// envName is the environment variable of a flag.
func envName(flag string) string {
	return "HFMOUNT_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// addEnv gives a flag its environment variable, in front of any it has.
func addEnv(f cli.Flag) {
	set := func(vars *[]string) { *vars = append([]string{envName(f.Names()[0])}, *vars...) }
	switch f := f.(type) {
	case *cli.BoolFlag:
		set(&f.EnvVars)
	case *cli.StringFlag:
		set(&f.EnvVars)
	case *cli.StringSliceFlag:
		set(&f.EnvVars)
	case *cli.DurationFlag:
		set(&f.EnvVars)
	case *cli.IntFlag:
		set(&f.EnvVars)
	case *cli.GenericFlag:
		set(&f.EnvVars)
	default:
		panic(fmt.Sprintf("flag %s: no environment for %T", f.Names()[0], f))
	}
}

// storeFlags are those of every command that reads the Hub through the cache.
func storeFlags(logLevel string) []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "revision", Usage: "branch, tag or commit `REV`, as @REV in the name"},
		&cli.StringFlag{Name: "endpoint", EnvVars: []string{"HF_ENDPOINT"}, Usage: "`URL` of the Hub (default: https://huggingface.co)"},
		&cli.StringFlag{Name: "token-file", Usage: "`FILE` with the token (default: HF_TOKEN, else the file that `hf auth login` wrote)"},
		&cli.StringFlag{Name: "cache-dir", Usage: "`DIR` of the cache (default: $HF_HOME/hfmount)"},
		&cli.GenericFlag{Name: "cache-size", Value: &sizeValue{n: -1, auto: "all but 10 % or 20 GB of the disk, whichever is more"}, Usage: "most bytes on disk, a `SIZE`; 0 is none"},
		&cli.GenericFlag{Name: "memory", Value: &sizeValue{n: 512e6}, Usage: "most bytes in memory, a `SIZE` filled on demand"},
		&cli.DurationFlag{Name: "read-timeout", Value: 10 * time.Minute, Usage: "how long one read may retry before it fails, a `DURATION`"},
		&cli.BoolFlag{Name: "offline", Usage: "make no request, show what is cached (also HF_HUB_OFFLINE=1)"},
		&cli.StringFlag{Name: "log-level", Value: logLevel, Usage: "debug, info, warn or error"},
		&cli.StringFlag{Name: "log-format", Value: "text", Usage: "text or json"},
	}
}

func jsonFlag() cli.Flag {
	return &cli.BoolFlag{Name: "json", Usage: "print JSON, and errors as one JSON object on standard error"}
}
