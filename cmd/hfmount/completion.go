package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"
)

func completionCommand() *cli.Command {
	return &cli.Command{
		Name:      "completion",
		Usage:     "print the completion script of a shell",
		ArgsUsage: "bash|zsh|fish",
		Description: `Example:
  source <(hfmount completion bash)
  hfmount completion fish > ~/.config/fish/completions/hfmount.fish`,
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 1, 1); err != nil {
				return err
			}
			return completion(c.App.Writer, c.App, c.Args().First())
		},
	}
}

// completion writes a script that needs nothing of this program when it runs,
// so that a shell starts no process for each press of a key.
func completion(w io.Writer, app *cli.App, shell string) error {
	var b strings.Builder
	switch shell {
	case "bash":
		bashCompletion(&b, app)
	case "zsh":
		b.WriteString("#compdef hfmount\n")
		b.WriteString("autoload -U +X bashcompinit && bashcompinit\n")
		bashCompletion(&b, app)
	case "fish":
		fishCompletion(&b, app)
	default:
		return &failure{text: fmt.Sprintf("no completion for %q", shell), hint: "there is bash, zsh and fish", code: exitUsage}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func longFlags(c *cli.Command) []string {
	out := []string{"--help"}
	for _, f := range c.Flags {
		out = append(out, "--"+f.Names()[0])
	}
	return out
}

func bashCompletion(b *strings.Builder, app *cli.App) {
	var names []string
	for _, c := range app.Commands {
		names = append(names, c.Name)
	}
	b.WriteString("_hfmount() {\n")
	b.WriteString("  local cur=${COMP_WORDS[COMP_CWORD]} cmd=${COMP_WORDS[1]} flags\n")
	fmt.Fprintf(b, "  if [ \"$COMP_CWORD\" -eq 1 ]; then\n    COMPREPLY=($(compgen -W '%s --help' -- \"$cur\"))\n    return\n  fi\n", strings.Join(names, " "))
	b.WriteString("  case $cmd in\n")
	mountFlags := ""
	for _, c := range app.Commands {
		flags := strings.Join(longFlags(c), " ")
		if c.Name == defaultCommand {
			mountFlags = flags
		}
		fmt.Fprintf(b, "  %s) flags='%s' ;;\n", strings.Join(c.Names(), "|"), flags)
	}
	fmt.Fprintf(b, "  *) flags='%s' ;;\n  esac\n", mountFlags)
	b.WriteString("  case $cur in\n  -*) COMPREPLY=($(compgen -W \"$flags\" -- \"$cur\")) ;;\n")
	b.WriteString("  *) if [ \"$cmd\" = completion ]; then COMPREPLY=($(compgen -W 'bash zsh fish' -- \"$cur\")); else COMPREPLY=($(compgen -f -- \"$cur\")); fi ;;\n")
	b.WriteString("  esac\n}\ncomplete -o filenames -F _hfmount hfmount\n")
}

func fishCompletion(b *strings.Builder, app *cli.App) {
	for _, c := range app.Commands {
		fmt.Fprintf(b, "complete -c hfmount -n __fish_use_subcommand -a %s -d %s\n", c.Name, fishQuote(c.Usage))
		for _, f := range c.Flags {
			usage := ""
			if d, ok := f.(cli.DocGenerationFlag); ok {
				usage = strings.ReplaceAll(d.GetUsage(), "`", "")
			}
			value := ""
			if takesValue(f) {
				value = " -r"
			}
			fmt.Fprintf(b, "complete -c hfmount -n '__fish_seen_subcommand_from %s' -l %s%s -d %s\n", c.Name, f.Names()[0], value, fishQuote(usage))
		}
	}
	b.WriteString("complete -c hfmount -n '__fish_seen_subcommand_from completion' -f -a 'bash zsh fish'\n")
}

func fishQuote(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}
