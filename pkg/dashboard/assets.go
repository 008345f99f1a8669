package dashboard

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
	"time"
)

//go:embed templates assets/*.css assets/*.js assets/*.svg assets/uplot/*.js assets/uplot/*.css assets/uplot/LICENSE
var files embed.FS

const assetsPath = "/assets/"

// assets are the files that pages load. Their path has the hash of all of them,
// /assets/HASH/weir.css, so that a browser may keep them for ever.
type assets struct {
	files fs.FS
	hash  string
}

func readAssets() *assets {
	sub, err := fs.Sub(files, "assets")
	if err != nil {
		panic(fmt.Sprintf("dashboard: %v", err)) // they are in the binary
	}
	sum := sha256.New()
	err = fs.WalkDir(sub, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := fs.ReadFile(sub, path)
		fmt.Fprintf(sum, "%s %d\n", path, len(content))
		sum.Write(content)
		return err
	})
	if err != nil {
		panic(fmt.Sprintf("dashboard: %v", err))
	}
	return &assets{sub, hex.EncodeToString(sum.Sum(nil)[:8])}
}

// url is where a page finds a file.
func (a *assets) url(name string) string { return assetsPath + a.hash + "/" + name }

// ServeHTTP serves a file under its hash; under another one, from a page of
// another release, as it is now and not to be kept.
func (a *assets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	hash, name, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, assetsPath), "/")
	content, err := fs.ReadFile(a.files, name)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	if hash == a.hash {
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	w.Header().Set("ETag", `"`+a.hash+`"`)
	http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(content))
}
