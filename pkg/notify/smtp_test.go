package notify

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// mailServer is an SMTP server that keeps what it gets.
type mailServer struct {
	host, port  string
	authorities *x509.CertPool
	mechanisms  []string // it authenticates by; none: it asks for nothing

	mu    sync.Mutex
	mails []gotMail
	clear int // passwords that came unencrypted
}

type gotMail struct {
	from, user string
	to         []string
	text       string
	encrypted  bool
}

// startMail starts one that speaks TLS from the start, or offers it, or neither.
func startMail(t *testing.T, mode TLSMode, mechanisms ...string) *mailServer {
	t.Helper()
	certified := httptest.NewTLSServer(nil) // for its certificate of 127.0.0.1 and example.com
	certified.Close()
	m := &mailServer{authorities: x509.NewCertPool(), mechanisms: mechanisms}
	m.authorities.AddCert(certified.Certificate())
	server := smtp.NewServer(m)
	server.ErrorLog = discard{}
	server.Domain, server.AllowInsecureAuth, server.MaxRecipients = "test", true, 10
	if mode != NoTLS {
		server.TLSConfig = &tls.Config{Certificates: certified.TLS.Certificates}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m.host, m.port, _ = net.SplitHostPort(listener.Addr().String())
	if mode == ImplicitTLS {
		listener = tls.NewListener(listener, server.TLSConfig)
	}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	return m
}

type discard struct{}

func (discard) Printf(string, ...any) {}
func (discard) Println(...any)        {}

func (m *mailServer) got() []gotMail {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.mails)
}

func (m *mailServer) NewSession(c *smtp.Conn) (smtp.Session, error) {
	return &mailSession{server: m, conn: c}, nil
}

type mailSession struct {
	server *mailServer
	conn   *smtp.Conn
	mail   gotMail
}

func (s *mailSession) AuthMechanisms() []string { return s.server.mechanisms }

func (s *mailSession) Auth(mechanism string) (sasl.Server, error) {
	check := func(user, password string) error {
		if _, encrypted := s.conn.TLSConnectionState(); !encrypted {
			s.server.mu.Lock()
			s.server.clear++
			s.server.mu.Unlock()
		}
		if user != "weir" || password != "pass word" {
			return smtp.ErrAuthFailed
		}
		s.mail.user = user
		return nil
	}
	if mechanism == "LOGIN" {
		return &loginServer{check: check}, nil
	}
	return sasl.NewPlainServer(func(_, user, password string) error { return check(user, password) }), nil
}

func (s *mailSession) Mail(from string, _ *smtp.MailOptions) error {
	if len(s.server.mechanisms) > 0 && s.mail.user == "" {
		return smtp.ErrAuthRequired
	}
	_, s.mail.encrypted = s.conn.TLSConnectionState()
	s.mail.from = from
	return nil
}

func (s *mailSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	if strings.HasPrefix(to, "nobody") {
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such user"}
	}
	if strings.HasPrefix(to, "full") {
		return &smtp.SMTPError{Code: 452, EnhancedCode: smtp.EnhancedCode{4, 2, 2}, Message: "mailbox full"}
	}
	s.mail.to = append(s.mail.to, to)
	return nil
}

func (s *mailSession) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	if strings.Contains(string(text), "spam") {
		return &smtp.SMTPError{Code: 554, EnhancedCode: smtp.EnhancedCode{5, 7, 1}, Message: "not wanted here"}
	}
	s.mail.text = string(text)
	s.server.mu.Lock()
	s.server.mails = append(s.server.mails, s.mail)
	s.server.mu.Unlock()
	return err
}

func (s *mailSession) Reset()        {}
func (s *mailSession) Logout() error { return nil }

// loginServer is the server's side of AUTH LOGIN, which the library lacks.
type loginServer struct {
	check func(user, password string) error
	step  int
	user  string
}

func (l *loginServer) Next(answer []byte) (challenge []byte, done bool, err error) {
	l.step++
	switch l.step {
	case 1:
		return []byte("Username:"), false, nil
	case 2:
		l.user = string(answer)
		return []byte("Password:"), false, nil
	}
	return nil, true, l.check(l.user, string(answer))
}

func (m *mailServer) config(mode TLSMode) SMTPConfig {
	return SMTPConfig{Host: m.host, Port: m.port, TLS: mode, User: "weir", Password: NewSecret("pass word"), Authorities: m.authorities}
}

func TestSMTP_EncryptsAndAuthenticatesAsTheServerOffers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name       string
		server     TLSMode
		mechanisms []string
		change     func(*SMTPConfig)
		wrong      string // what the error says; "": none
	}{
		{name: "STARTTLS and PLAIN", server: STARTTLS, mechanisms: []string{"PLAIN"}},
		{name: "STARTTLS and LOGIN", server: STARTTLS, mechanisms: []string{"LOGIN"}},
		{name: "unknown ways first", server: STARTTLS, mechanisms: []string{"XOAUTH2", "GSSAPI", "PLAIN"}},
		{name: "implicit TLS", server: ImplicitTLS, mechanisms: []string{"PLAIN"}, change: func(c *SMTPConfig) { c.TLS = ImplicitTLS }},
		{name: "offered and taken", server: STARTTLS, mechanisms: []string{"PLAIN"}, change: func(c *SMTPConfig) { c.TLS = OfferedTLS }},
		{name: "neither", server: NoTLS, change: func(c *SMTPConfig) { c.TLS, c.User = NoTLS, "" }},
		{name: "not offered", server: NoTLS, change: func(c *SMTPConfig) { c.TLS, c.User = OfferedTLS, "" }},

		{name: "STARTTLS taken away", server: NoTLS, mechanisms: []string{"PLAIN"}, wrong: "no STARTTLS"},
		{name: "no password in the clear", server: NoTLS, mechanisms: []string{"PLAIN"}, change: func(c *SMTPConfig) { c.TLS = OfferedTLS }, wrong: "not encrypted"},
		{name: "nor without TLS", server: NoTLS, mechanisms: []string{"LOGIN"}, change: func(c *SMTPConfig) { c.TLS = NoTLS }, wrong: "not encrypted"},
		{name: "wrong password", server: STARTTLS, mechanisms: []string{"PLAIN"}, change: func(c *SMTPConfig) { c.Password = NewSecret("T0PSECRET") }, wrong: "AUTH PLAIN"},
		{name: "wrong password by LOGIN", server: STARTTLS, mechanisms: []string{"LOGIN"}, change: func(c *SMTPConfig) { c.Password = NewSecret("T0PSECRET") }, wrong: "AUTH LOGIN"},
		{name: "no common way", server: STARTTLS, mechanisms: []string{"XOAUTH2"}, wrong: "none of PLAIN"},
		{name: "unknown authority", server: STARTTLS, mechanisms: []string{"PLAIN"}, change: func(c *SMTPConfig) { c.Authorities = nil }, wrong: "certificate"},
		{name: "not authenticated", server: STARTTLS, mechanisms: []string{"PLAIN"}, change: func(c *SMTPConfig) { c.User = "" }, wrong: "MAIL FROM"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := startMail(t, c.server, c.mechanisms...)
			cfg := m.config("")
			if c.change != nil {
				c.change(&cfg)
			}
			_, err := cfg.send(t.Context(), "weir@example.com", []string{"a@example.com"}, []byte("Subject: x\r\n\r\nx\r\n"))
			if c.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), c.wrong) || strings.Contains(err.Error(), "T0PSECRET") || Refused(err) {
					t.Errorf("got %v, want an error with %q that is the server's", err, c.wrong)
				}
				if len(m.got()) != 0 || m.clear != 0 {
					t.Errorf("it got %d mails, and %d passwords in the clear", len(m.got()), m.clear)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := m.got()
			if len(got) != 1 || got[0].user != cfg.User || got[0].encrypted != (c.server != NoTLS) || !slices.Equal(got[0].to, []string{"a@example.com"}) {
				t.Errorf("it got %+v", got)
			}
		})
	}
}

func TestSMTP_OneAddressThatIsRefusedDoesNotKeepTheMailFromOthers(t *testing.T) {
	t.Parallel()
	m := startMail(t, STARTTLS, "PLAIN")
	cfg := m.config("")
	text := []byte("Subject: x\r\n\r\nx\r\n")
	refused, err := cfg.send(t.Context(), "weir@example.com", []string{"nobody@example.com", "a@example.com", "b@example.com"}, text)
	if err != nil || len(refused) != 1 || !strings.Contains(refused[0], "nobody@example.com") || !slices.Equal(m.got()[0].to, []string{"a@example.com", "b@example.com"}) {
		t.Errorf("refused %v, %v; got %+v", refused, err, m.got())
	}
	_, err = cfg.send(t.Context(), "weir@example.com", []string{"nobody@example.com"}, text)
	if !Refused(err) {
		t.Errorf("where all are refused: %v", err)
	}
	_, err = cfg.send(t.Context(), "weir@example.com", []string{"full@example.com"}, text)
	if err == nil || Refused(err) {
		t.Errorf("where it may be accepted later: %v", err)
	}
	_, err = cfg.send(t.Context(), "weir@example.com", []string{"a@example.com"}, []byte("Subject: spam\r\n\r\n"))
	if !Refused(err) {
		t.Errorf("where the mail is refused: %v", err)
	}
}

func TestSMTP_DoesNotWaitForEver(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // it accepts, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	host, port, _ := net.SplitHostPort(silent.Addr().String())
	for _, mode := range []TLSMode{STARTTLS, ImplicitTLS} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		cfg := SMTPConfig{Host: host, Port: port, TLS: mode}
		if _, err := cfg.send(ctx, "a@example.com", []string{"b@example.com"}, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: got %v", mode, err)
		}
		cancel()
		ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(20*time.Millisecond, cancel)
		if _, err := cfg.send(ctx, "a@example.com", []string{"b@example.com"}, nil); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v", mode, err)
		}
	}
}
