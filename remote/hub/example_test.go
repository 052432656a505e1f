package hub_test

import (
	"fmt"

	"hfmount/remote/hub"
)

func ExampleParse() {
	l, err := hub.Parse("hf://datasets/acme/web@refs/pr/7/train/0.parquet")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(l.Repo, l.Revision, l.Path)
	// Output: datasets/acme/web refs/pr/7 train/0.parquet
}

func ExampleParseArg() {
	for _, s := range []string{"gpt2", "acme/tiny@v1", "https://huggingface.co/acme/tiny/blob/main/config.json"} {
		l, err := hub.ParseArg(s, "")
		fmt.Println(l, err)
	}
	// Output:
	// hf://gpt2 <nil>
	// hf://acme/tiny@v1 <nil>
	// hf://acme/tiny@main/config.json <nil>
}

func ExampleEscapeRevision() {
	fmt.Println(hub.EscapeRevision("refs/pr/1"))
	// Output: refs%2Fpr%2F1
}
