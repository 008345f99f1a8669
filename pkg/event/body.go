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

// inflate returns the plain body. encoding is the Content-Encoding header:
// "", "identity", "gzip" or "zstd".
func inflate(body []byte, encoding string) ([]byte, error) {
	var reader io.Reader
	switch strings.ToLower(strings.TrimSpace(encoding)) {
	case "", "identity":
		if len(body) > MaxBody {
			return nil, fmt.Errorf("%w: body is over %d bytes", ErrUndecodable, MaxBody)
		}
		return body, nil
	case "gzip":
		r, err := gzip.NewReader(bytes.NewReader(body))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUndecodable, err)
		}
		reader = r
	case "zstd":
		r, err := zstd.NewReader(bytes.NewReader(body), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(MaxBody))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUndecodable, err)
		}
		defer r.Close()
		reader = r
	default:
		return nil, fmt.Errorf("%w: Content-Encoding %q is none of gzip, zstd", ErrUndecodable, encoding)
	}
	plain, err := io.ReadAll(io.LimitReader(reader, MaxBody+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUndecodable, err)
	}
	if len(plain) > MaxBody {
		return nil, fmt.Errorf("%w: body is over %d bytes once decompressed", ErrUndecodable, MaxBody)
	}
	return plain, nil
}
