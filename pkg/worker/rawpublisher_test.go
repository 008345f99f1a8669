package worker

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"
)

// rawPublisher speaks the protocol of NATS by hand: any bytes in subject,
// headers and body, as a publisher of any make could send them.
type rawPublisher struct {
	t    *testing.T
	url  string
	conn net.Conn // nil: to be opened
	in   *bufio.Reader
}

// published is what the stream says to a message.
type published struct {
	Stream    string `json:"stream"`
	Sequence  uint64 `json:"seq"`
	Duplicate bool   `json:"duplicate"`
	Error     struct {
		Description string `json:"description"`
	} `json:"error"`
	refusal string // why it is not stored
}

func (p *rawPublisher) open() error {
	u, err := url.Parse(p.url)
	if err != nil {
		return err
	}
	if p.conn, err = net.Dial("tcp", u.Host); err != nil {
		return err
	}
	p.in = bufio.NewReader(p.conn)
	_, err = fmt.Fprintf(p.conn, "CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,\"no_responders\":true,\"lang\":\"test\",\"version\":\"1\"}\r\nSUB answer 1\r\n")
	return err
}

func (p *rawPublisher) close() {
	if p.conn != nil {
		_ = p.conn.Close()
		p.conn = nil
	}
}

// publish sends one message and returns what became of it.
func (p *rawPublisher) publish(subject string, headers, body []byte) published {
	p.t.Helper()
	if p.conn == nil {
		if err := p.open(); err != nil {
			p.t.Fatal(err)
		}
	}
	frame := fmt.Appendf(nil, "PUB %s answer %d\r\n", subject, len(body))
	if headers != nil {
		frame = fmt.Appendf(nil, "HPUB %s answer %d %d\r\n", subject, len(headers), len(headers)+len(body))
	}
	frame = append(append(append(frame, headers...), body...), '\r', '\n')
	_ = p.conn.SetDeadline(time.Now().Add(patience))
	if _, err := p.conn.Write(frame); err != nil {
		p.t.Logf("publish to %.60q: %v", subject, err) // refused before all of it was sent
	}
	answer := p.answer()
	if answer.Error.Description != "" {
		answer.refusal = answer.Error.Description
	}
	return answer
}

// answer reads until the server has said what became of the message.
func (p *rawPublisher) answer() (a published) {
	for {
		line, err := p.in.ReadString('\n')
		if err != nil {
			p.close()
			return published{refusal: "no answer: " + err.Error()}
		}
		fields := strings.Fields(line)
		switch {
		case strings.HasPrefix(line, "-ERR"):
			p.close()
			return published{refusal: strings.TrimSpace(line)}
		case strings.HasPrefix(line, "PING"):
			_, _ = p.conn.Write([]byte("PONG\r\n"))
		case strings.HasPrefix(line, "MSG"), strings.HasPrefix(line, "HMSG"):
			size, err := strconv.Atoi(fields[len(fields)-1])
			if err != nil {
				p.t.Fatalf("NATS sent %q", line)
			}
			content := make([]byte, size+2)
			for read := 0; read < len(content); {
				n, err := p.in.Read(content[read:])
				if err != nil {
					p.t.Fatal(err)
				}
				read += n
			}
			if fields[0] == "HMSG" {
				return published{refusal: "no responders: " + strings.TrimSpace(string(content))}
			}
			if err := json.Unmarshal(content[:size], &a); err != nil {
				p.t.Fatalf("NATS answered %q: %v", content, err)
			}
			return a
		}
	}
}
