package writeback

import "testing"

func TestLocalOnly(t *testing.T) {
	plain := NewLocalOnly(LocalOnlyOptions{})
	noJunk := NewLocalOnly(LocalOnlyOptions{NoJunk: true})
	ignore := NewLocalOnly(LocalOnlyOptions{
		IgnoreFile: "# logs\r\n*.log\r\n\n/build/\nruns/**/events.*\n",
		Ignore:     []string{"scratch/", "!keep.log"},
	})
	for _, tt := range []struct {
		path                  string
		plain, noJunk, ignore string
	}{
		{"model.safetensors", "", "", ""},
		{"ckpt/model.tmp", "", "", ""},
		{"a/.DS_Store", "editor or system file", "", "editor or system file"},
		{"a/._x", "editor or system file", "", "editor or system file"},
		{".notes.txt.swp", "editor or system file", "", "editor or system file"},
		{"4913", "editor or system file", "", "editor or system file"},
		{"14913", "", "", ""},
		{".nfs000012", "editor or system file", "", "editor or system file"},
		{"notes.txt~", "editor or system file", "", "editor or system file"},
		{".git", ".git", ".git", ".git"},
		{".git/objects/00/1", ".git", ".git", ".git"},
		{"sub/.git/config", ".git", ".git", ".git"},
		{".gitattributes", "", "", ""},
		{".gitignore", "", "", ""},
		{"a/.cache/huggingface/x", ".cache", ".cache", ".cache"},
		{"pkg/__pycache__/x.pyc", "__pycache__", "__pycache__", "__pycache__"},
		{"nb/.ipynb_checkpoints/x.ipynb", ".ipynb_checkpoints", ".ipynb_checkpoints", ".ipynb_checkpoints"},
		{"train.log", "", "", "ignored"},
		{"a/b/train.log", "", "", "ignored"},
		{"keep.log", "", "", ""},
		{"build", "", "", ""},
		{"build/x", "", "", "ignored"},
		{"a/build/x", "", "", ""},
		{"a/scratch/keep.log", "", "", "ignored"},
		{"runs/1/2/events.0", "", "", "ignored"},
	} {
		for name, is := range map[string]struct {
			f    func(string) string
			want string
		}{"plain": {plain, tt.plain}, "no junk filter": {noJunk, tt.noJunk}, "ignore": {ignore, tt.ignore}} {
			if got := is.f(tt.path); got != is.want {
				t.Errorf("%s: %s is %q, want %q", name, tt.path, got, is.want)
			}
		}
	}
}
