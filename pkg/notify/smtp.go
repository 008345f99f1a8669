package notify

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/smtp"
	"net/textproto"
	"os"
	"strings"
	"time"
)

// TLSMode says how the way to a mail server is encrypted.
type TLSMode string

// The modes. Passwords go over encrypted ways only.
const (
	STARTTLS    TLSMode = "starttls" // the server must offer STARTTLS; usual on the ports 587 and 25
	ImplicitTLS TLSMode = "implicit" // from the first byte; usual on port 465
	OfferedTLS  TLSMode = "offered"  // STARTTLS where the server offers it: who is between can take that away
	NoTLS       TLSMode = "none"
)

// SMTPConfig says how to reach a mail server.
type SMTPConfig struct {
	Host        string
	Port        string
	TLS         TLSMode // "": implicit on port 465, starttls on others
	User        string  // "": without authentication
	Password    Secret
	Authorities *x509.CertPool // nil: those of the system
}

func (c *SMTPConfig) mode() TLSMode {
	switch {
	case c.TLS != "":
		return c.TLS
	case c.Port == "465":
		return ImplicitTLS
	}
	return STARTTLS
}

// send hands one mail to the server, for all recipients in one transaction. It
// returns what the server said of those that it refused; where it refused all,
// that is the error. After nil the server has taken charge of the mail.
func (c *SMTPConfig) send(ctx context.Context, from string, to []string, text []byte) (refused []string, err error) {
	defer func() {
		if err != nil && ctx.Err() != nil {
			err = fmt.Errorf("%w: %w", context.Cause(ctx), err) // it ended because of that
		}
		if err != nil {
			err = fmt.Errorf("mail by %s: %w", c.Host, err)
		}
	}()
	client, err := c.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = client.Close() }()
	if err := client.Mail(from); err != nil {
		return nil, fmt.Errorf("MAIL FROM: %w", err)
	}
	var last error
	for _, address := range to {
		if err := client.Rcpt(address); err != nil {
			refused = append(refused, address+": "+err.Error())
			last = final("RCPT TO "+address, err)
		}
	}
	if len(refused) == len(to) {
		return nil, last
	}
	data, err := client.Data()
	if err != nil {
		return nil, final("DATA", err)
	}
	if _, err := data.Write(text); err != nil {
		return nil, err
	}
	if err := data.Close(); err != nil { // the server's answer to the mail
		return nil, final("DATA", err)
	}
	_ = client.Quit() // the mail is its already
	return refused, nil
}

// connect returns a session, encrypted and authenticated as configured. When
// ctx ends, so does the connection.
func (c *SMTPConfig) connect(ctx context.Context) (_ *smtp.Client, err error) {
	dialer := net.Dialer{}
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(c.Host, c.Port))
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = conn.Close()
		}
	}()
	plain := conn
	context.AfterFunc(ctx, func() { _ = plain.SetDeadline(time.Unix(1, 0)) }) // whatever is under way fails
	settings := &tls.Config{ServerName: c.Host, RootCAs: c.Authorities, MinVersion: tls.VersionTLS12}
	mode := c.mode()
	if mode == ImplicitTLS {
		conn = tls.Client(conn, settings)
	}
	client, err := smtp.NewClient(conn, c.Host)
	if err != nil {
		return nil, err
	}
	if err := client.Hello(ownName()); err != nil {
		return nil, fmt.Errorf("EHLO: %w", err)
	}
	offered, _ := client.Extension("STARTTLS")
	switch {
	case mode == STARTTLS && !offered:
		return nil, errors.New("the server offers no STARTTLS: set tls: implicit if its port speaks TLS from the start, tls: none to do without")
	case mode == STARTTLS, mode == OfferedTLS && offered:
		if err := client.StartTLS(settings); err != nil {
			return nil, fmt.Errorf("STARTTLS: %w", err)
		}
	}
	return client, c.authenticate(client)
}

// ownName is what a client says it is: a name that is no hostname would be refused.
func ownName() string {
	name, err := os.Hostname()
	if err != nil || name == "" || strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-") != "" {
		return "localhost"
	}
	return name
}

// authenticate takes the first way that both sides know; none shows the
// password to who listens, for the connection is encrypted.
func (c *SMTPConfig) authenticate(client *smtp.Client) error {
	if c.User == "" {
		return nil
	}
	if _, encrypted := client.TLSConnectionState(); !encrypted {
		return errors.New("the connection is not encrypted, and so the password is not sent")
	}
	_, mechanisms := client.Extension("AUTH")
	for _, name := range strings.Fields(mechanisms) {
		var way smtp.Auth
		switch strings.ToUpper(name) {
		case "PLAIN":
			way = smtp.PlainAuth("", c.User, c.Password.reveal(), c.Host)
		case "LOGIN":
			way = &loginAuth{c.User, c.Password}
		case "CRAM-MD5":
			way = smtp.CRAMMD5Auth(c.User, c.Password.reveal())
		default:
			continue
		}
		if err := client.Auth(way); err != nil {
			return fmt.Errorf("AUTH %s: %w", strings.ToUpper(name), err)
		}
		return nil
	}
	return fmt.Errorf("the server offers none of PLAIN, LOGIN and CRAM-MD5 to authenticate by; it offers: %q", mechanisms)
}

// loginAuth is AUTH LOGIN: the server asks for the name, and then for the password.
type loginAuth struct {
	user     string
	password Secret
}

func (*loginAuth) Start(*smtp.ServerInfo) (proto string, toServer []byte, err error) {
	return "LOGIN", nil, nil
}

func (a *loginAuth) Next(question []byte, more bool) ([]byte, error) {
	switch asked := strings.ToLower(string(question)); {
	case !more:
		return nil, nil
	case strings.HasPrefix(asked, "user"):
		return []byte(a.user), nil
	case strings.HasPrefix(asked, "pass"):
		return []byte(a.password.reveal()), nil
	}
	return nil, errors.New("the server asks for something that is neither user name nor password")
}

// final makes a refusal of an answer to a mail, or to an address, that is final (5xx).
func final(what string, err error) error {
	err = fmt.Errorf("%s: %w", what, err)
	var answer *textproto.Error
	if errors.As(err, &answer) && answer.Code >= 500 {
		return refusal{err}
	}
	return err
}
