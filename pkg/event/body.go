package event

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// MaxBody bounds the size of a message body after decompression, in bytes: a
// small compressed message must not be able to fill a worker's memory.
const MaxBody = 64 << 20

// ErrUndecodable marks a message none of whose events can be read: broken
// JSON, an unknown encoding, a body over MaxBody.
var ErrUndecodable = errors.New("undecodable message")

const (
	// mostKept bounds the memory of bodies that is kept for the next, in bytes.
	mostKept = 1 << 20
	// mostWindow bounds the memory of a kept zstd decoder, in bytes. What a
	// publisher's encoder asks for is not more.
	mostWindow = 8 << 20
)

// inflater decompresses bodies, with the same memory for one after another.
type inflater struct {
	source bytes.Reader
	gzip   *gzip.Reader
	zstd   *zstd.Decoder // refuses what needs more memory than is to be kept
	plain  bytes.Buffer
}

// inflate returns the plain body, which is valid until the next call. encoding
// is the Content-Encoding header: "", "identity", "gzip" or "zstd".
func (f *inflater) inflate(body []byte, encoding string) ([]byte, error) {
	if f.plain.Cap() > mostKept {
		f.plain = bytes.Buffer{}
	}
	var reader io.Reader
	switch strings.ToLower(strings.TrimSpace(encoding)) {
	case "", "identity":
		if len(body) > MaxBody {
			return nil, fmt.Errorf("%w: body is over %d bytes", ErrUndecodable, MaxBody)
		}
		return body, nil
	case "gzip":
		if err := f.openGzip(body); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUndecodable, err)
		}
		reader = f.gzip
	case "zstd":
		if plain, err := f.keptZstd(body); err == nil && len(plain) <= MaxBody {
			return plain, nil
		}
		r, err := zstd.NewReader(bytes.NewReader(body), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(MaxBody))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUndecodable, err)
		}
		defer r.Close()
		reader = r
	default:
		return nil, fmt.Errorf("%w: Content-Encoding %q is none of gzip, zstd", ErrUndecodable, encoding)
	}
	plain, err := f.read(reader)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUndecodable, err)
	}
	if len(plain) > MaxBody {
		return nil, fmt.Errorf("%w: body is over %d bytes once decompressed", ErrUndecodable, MaxBody)
	}
	return plain, nil
}

func (f *inflater) openGzip(body []byte) (err error) {
	f.source.Reset(body)
	if f.gzip != nil {
		return f.gzip.Reset(&f.source)
	}
	f.gzip, err = gzip.NewReader(&f.source)
	return err
}

// keptZstd decompresses with the decoder that is kept. Where it fails another
// may not.
func (f *inflater) keptZstd(body []byte) ([]byte, error) {
	f.source.Reset(body)
	var err error
	if f.zstd == nil {
		f.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(MaxBody),
			zstd.WithDecoderMaxWindow(mostWindow), zstd.WithDecoderLowmem(true))
	}
	if err == nil {
		err = f.zstd.Reset(&f.source)
	}
	if err != nil {
		return nil, err
	}
	return f.read(f.zstd)
}

// read returns what the reader has, up to one byte more than MaxBody.
func (f *inflater) read(reader io.Reader) ([]byte, error) {
	f.plain.Reset()
	_, err := f.plain.ReadFrom(io.LimitReader(reader, MaxBody+1))
	return f.plain.Bytes(), err
}
