package event

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

func packed(t testing.TB, encoding, text string, options ...zstd.EOption) []byte {
	t.Helper()
	var b bytes.Buffer
	switch encoding {
	case "gzip":
		w := gzip.NewWriter(&b)
		if _, err := w.Write([]byte(text)); err != nil || w.Close() != nil {
			t.Fatal(err)
		}
	case "zstd":
		w, err := zstd.NewWriter(&b, options...)
		if err != nil {
			t.Fatal(err)
		}
		for part := range strings.SplitSeq(text, "\n") { // a stream whose length is not known before
			if _, err := w.Write([]byte(part)); err != nil || w.Flush() != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

// What one message leaves behind, broken or large, changes nothing for the next.
func TestDecode_InflatesEachMessageAfresh(t *testing.T) {
	t.Parallel()
	events := "[" + strings.Repeat(`{"at":1795341599123},`+"\n", 3000) + `{"at":1795341599123}]`
	var bodies []Body
	for _, encoding := range []string{"gzip", "zstd"} {
		whole, small := packed(t, encoding, events), packed(t, encoding, `{"at":1795341599123}`)
		for _, data := range [][]byte{whole, small, whole[:len(whole)/2], small, small[:3], {}, small, append(bytes.Clone(small), "x"...), small, append(bytes.Clone(small), small...), whole} {
			bodies = append(bodies, Body{Data: data, Encoding: encoding})
		}
	}
	bodies = append(bodies, Body{Data: packed(t, "zstd", events, zstd.WithWindowSize(32<<20)), Encoding: "zstd"}, bodies[0], bodies[12])
	schema := testSchema()
	show := func(d *Decoder, body Body) string {
		c := NewColumns(schema, NewDictionary())
		n, rejects, err := d.Decode(body, Origin{Stored: stored}, c)
		if err != nil && !errors.Is(err, ErrUndecodable) {
			t.Error(err)
		}
		return fmt.Sprint(n, d.Size(), rejects, err, c.Times)
	}
	var kept Decoder
	for i, body := range bodies {
		if got, want := show(&kept, body), show(&Decoder{}, body); got != want {
			t.Errorf("message %d: got %.200s, want %.200s", i, got, want)
		}
	}
	if n, _, err := kept.Decode(bodies[22], Origin{Stored: stored}, NewColumns(schema, NewDictionary())); n != 3001 || err != nil {
		t.Errorf("of a message that needs a large window: %d events, error %v", n, err)
	}
}
