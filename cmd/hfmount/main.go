// Command hfmount mounts repositories of the Hugging Face Hub as directories.
package main

import (
	"context"
	"os"
)

func main() { os.Exit(run(context.Background(), os.Args, os.Stdout, os.Stderr)) }
