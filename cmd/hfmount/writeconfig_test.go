package main

import (
	"testing"
	"time"

	"hfmount/remote/hub"
	"hfmount/writeback"
)

func TestWriteConfig(t *testing.T) {
	cleanEnv(t)
	t.Setenv("HOME", "/home/ada")
	for line, ok := range map[string]func(mountConfig) bool{
		"a/b m": func(c mountConfig) bool {
			w := c.write
			return c.readOnly == "" && !w.required && w.stateDir == "/home/ada/.cache/huggingface/hfmount/state" &&
				w.policy == writeback.Policy{CommitAfter: 30 * time.Second, CommitMaxWait: 15 * time.Minute} && !w.syncRemote && w.maxStaging == 0
		},
		"a/b m --cache-dir /c":               func(c mountConfig) bool { return c.write.stateDir == "/c/state" },
		"a/b m --state-dir /s":               func(c mountConfig) bool { return c.write.stateDir == "/s" },
		"a/b m --commit manual":              func(c mountConfig) bool { return c.write.policy.Manual },
		"a/b m --on-conflict ours":           func(c mountConfig) bool { return c.write.policy.OnConflict == writeback.ConflictOurs },
		"a/b m --on-conflict=fail":           func(c mountConfig) bool { return c.write.policy.OnConflict == writeback.ConflictFail },
		"a/b m --commit-message {{.Files}}":  func(c mountConfig) bool { return c.write.policy.Message == "{{.Files}}" },
		"a/b m --guard off":                  func(c mountConfig) bool { return c.write.policy.NoGuard },
		"a/b m --sync remote":                func(c mountConfig) bool { return c.write.syncRemote },
		"a/b m --max-staging 10GiB":          func(c mountConfig) bool { return c.write.maxStaging == 10<<30 },
		"a/b m --ignore *.log --ignore tmp/": func(c mountConfig) bool { return len(c.write.ignore) == 2 },
		"a/b m --commit-every 10m --squash-history": func(c mountConfig) bool {
			return c.write.policy.Every == 10*time.Minute && c.write.policy.Squash
		},
		"a/b m -o commit_after=5s,rw,create_pr": func(c mountConfig) bool {
			return c.write.policy.CommitAfter == 5*time.Second && c.write.policy.CreatePR && c.write.rw == ""
		},
		"a/b m --rw":                 func(c mountConfig) bool { return c.write.required && c.readOnly == "" },
		"a/b m --rw=x/*":             func(c mountConfig) bool { return !c.write.required && c.readOnly == "" },
		"a/b:/mnt:rw":                func(c mountConfig) bool { return c.write.required && c.dir == "/mnt" },
		"a/b@refs/pr/3 m":            func(c mountConfig) bool { return c.readOnly == "" },
		"a/b@refs/convert/parquet m": func(c mountConfig) bool { return c.readOnly == "made by the Hub" },
		"a/b m --open-mode noopen":   func(c mountConfig) bool { return c.readOnly == "--open-mode noopen" },
		"a/b m --offline":            func(c mountConfig) bool { return c.readOnly == "offline" },
		"hf:// m --rw": func(c mountConfig) bool {
			return c.readOnly == "" && c.write.names(hub.Repo{Namespace: "x", Name: "y"})
		},
		"hf:// m -o rw=datasets/ada/*": func(c mountConfig) bool {
			return c.write.names(hub.Repo{Type: hub.Dataset, Namespace: "ada", Name: "y"}) && !c.write.names(hub.Repo{Namespace: "ada", Name: "y"})
		},
		"hf:// m --rw=ada/* --create-repo": func(c mountConfig) bool {
			return c.write.createRepo && !c.write.names(hub.Repo{Namespace: "bob", Name: "y"})
		},
		"a/b@dev m --create-branch": func(c mountConfig) bool { return c.write.policy.CreateBranch },
	} {
		cfg, err := configOf(t, line)
		if err != nil || !ok(cfg) {
			t.Errorf("%q: %q %+v, %v", line, cfg.readOnly, cfg.write, err)
		}
	}
	t.Setenv("HFMOUNT_COMMIT_AFTER", "1m")
	t.Setenv("HFMOUNT_RW", "ada/*")
	t.Setenv("HFMOUNT_CREATE_PR", "true")
	cfg, err := configOf(t, "hf:// m")
	if err != nil || cfg.write.policy.CommitAfter != time.Minute || cfg.write.rw != "ada/*" || !cfg.write.policy.CreatePR {
		t.Errorf("by the environment: %+v, %v", cfg.write, err)
	}
}

func TestWriteConfigRefuses(t *testing.T) {
	cleanEnv(t)
	const commit = "0123456789012345678901234567890123456789"
	for line, code := range map[string]int{
		"a/b m --commit never":                                 exitUsage,
		"a/b m --commit-message {{.Nothing}}":                  exitUsage,
		"a/b m --sync all":                                     exitUsage,
		"a/b m --on-conflict theirs":                           exitUsage,
		"a/b m --guard maybe":                                  exitUsage,
		"a/b m --commit-after -1s":                             exitUsage,
		"a/b m --commit-max-wait 0":                            exitUsage,
		"a/b m --commit-after 1h":                              exitUsage, // longer than --commit-max-wait
		"a/b m --commit manual --commit-every 1m":              exitUsage,
		"a/b m --squash-history":                               exitUsage,
		"a/b m --commit-every 1m --squash-history --create-pr": exitUsage,
		"a/b m --create-pr --create-branch":                    exitUsage,
		"a/b m --commit manual --sync remote":                  exitUsage,
		"a/b m --max-staging -1":                               exitUsage,
		"a/b m --rw --read-only":                               exitUsage,
		"a/b m --rw=[":                                         exitUsage,
		"hf:// m --create-repo":                                exitUsage,
		"hf:// m --rw --create-branch":                         exitUsage,
		"a/b:/mnt:rw --offline":                                exitFailed,
		"a/b@" + commit + ":/mnt:rw":                           exitFailed,
		"a/b@refs/convert/parquet m --rw":                      exitFailed,
	} {
		_, err := configOf(t, line)
		if err == nil {
			t.Errorf("%q: no error", line)
			continue
		}
		if f := explain(err); f.code != code {
			t.Errorf("%q: exit %d (%v), want %d", line, f.code, err, code)
		}
	}
}
