package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"
)

func runCommand() *cli.Command {
	return &cli.Command{
		Name:      "run",
		Usage:     "run a command whose changes to a mount become one commit, or none",
		ArgsUsage: "DIR -- CMD…",
		Description: `While CMD runs, nothing is committed by itself. If it exits with 0, its changes
become one commit; else, also if it or hfmount run is killed, they are held, and
only hfmount commit or discard moves them. Exits as CMD does, or if the commit
does not land, as hfmount commit would; 127 if there is no such CMD, 126 if it
cannot be run.

Example:
  hfmount run ~/model -- python train.py --output_dir ~/model/checkpoints
  hfmount run ~/data -m "Weekly refresh" -- ./refresh.sh`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "message", Aliases: []string{"m"}, Usage: "`TEXT` of the commit's title (default: what changed)"},
		},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 2, -1); err != nil {
				return err
			}
			p, err := placeOf(c.Args().First())
			if err != nil {
				return err
			}
			return runHeld(c.Context, p, c.Args().Tail(), c.String("message"), c.App.Writer, c.App.ErrWriter)
		},
	}
}

// heldMount is a transaction from its outside. The connection is what holds:
// when this process dies, the mount keeps the changes held.
type heldMount struct {
	body   *io.PipeWriter
	answer io.ReadCloser
	stop   func() bool // of what watches the context
}

// holdMount begins a transaction.
func holdMount(ctx context.Context, p place) (*heldMount, error) {
	r, w := io.Pipe()
	resp, err := p.begin(ctx, "POST", "/hold", r)
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	stop := context.AfterFunc(ctx, func() { _ = w.CloseWithError(ctx.Err()) }) // it cannot fail
	return &heldMount{w, resp.Body, stop}, nil
}

// end lets go and returns what became of the changes.
func (h *heldMount) end(ctx context.Context, e ending, show func(progress)) (outcome, error) {
	defer h.stop()
	defer h.answer.Close()
	if err := json.NewEncoder(h.body).Encode(e); err != nil {
		return outcome{}, errGone
	}
	if err := h.body.Close(); err != nil {
		return outcome{}, err
	}
	return readStream(ctx, h.answer, show)
}

// runHeld runs args as a transaction on the mount.
func runHeld(ctx context.Context, p place, args []string, message string, stdout, stderr io.Writer) error {
	if err := p.writable(ctx); err != nil {
		return err
	}
	path, err := exec.LookPath(args[0])
	if err != nil {
		code := exitNoCommand
		if errors.Is(err, os.ErrPermission) {
			code = exitNoExec
		}
		return &failure{text: err.Error(), code: code, err: err}
	}
	held, err := holdMount(ctx, p)
	if err != nil {
		return err
	}
	cmd := exec.Command(path)
	cmd.Args = args
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, stdout, stderr
	code, err := runForwarding(cmd)
	if err != nil {
		_, endErr := held.end(ctx, ending{OK: false}, nil)
		return errors.Join(&failure{text: err.Error(), code: exitNoExec, err: err}, endErr)
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	b := newBar(stderr)
	o, err := held.end(ctx, ending{OK: code == 0, Message: message}, b.show)
	b.close()
	switch {
	case code != 0:
		f := &failure{code: code, hint: fmt.Sprintf("`hfmount commit %s` sends them, `hfmount discard %s` drops them", p.mountpoint, p.mountpoint)}
		if err != nil || len(o.Left) > 0 {
			f.text = fmt.Sprintf("the command exited with %d; its changes are held", code)
		}
		return f
	case err != nil:
		return err
	}
	return o.tell(stdout, false)
}

// The exit codes by which shells tell that a command could not be run.
const (
	exitNoExec    = 126
	exitNoCommand = 127
)

// runForwarding runs cmd, passes signals on to it, and returns its exit code,
// 128 and the signal where one killed it. On a terminal cmd is in the group
// that Ctrl-C and Ctrl-\ reach by themselves.
func runForwarding(cmd *exec.Cmd) (int, error) {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	onTerminal := term.IsTerminal(int(os.Stdin.Fd()))
	done := make(chan struct{})
	forwarded := make(chan struct{})
	go func() { // ends with the command
		defer close(forwarded)
		for {
			select {
			case s := <-signals:
				if onTerminal && (s == syscall.SIGINT || s == syscall.SIGQUIT || s == syscall.SIGWINCH) {
					continue
				}
				_ = cmd.Process.Signal(s) // it may just have ended
			case <-done:
				return
			}
		}
	}()
	err := cmd.Wait()
	close(done)
	<-forwarded
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			return 128 + int(ws.Signal()), nil
		}
		return exit.ExitCode(), nil
	}
	return 0, err
}
