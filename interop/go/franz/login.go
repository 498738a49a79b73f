package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"milena.invalid/interop/lines"
)

// settings are those in the lines of bootstrap: its servers, and then settings by librdkafka's names.
func settings(bootstrap string) []kgo.Opt {
	all := strings.Split(bootstrap, "\n")
	named := map[string]string{}
	for _, line := range all[1:] {
		name, value, _ := strings.Cut(line, "=")
		named[name] = strings.ReplaceAll(value, "\t", "\n")
	}
	options := []kgo.Opt{kgo.SeedBrokers(strings.Split(all[0], ",")...)}
	user, password := named["sasl.username"], named["sasl.password"]
	switch named["sasl.mechanism"] {
	case "PLAIN":
		options = append(options, kgo.SASL(plain.Auth{User: user, Pass: password}.AsMechanism()))
	case "SCRAM-SHA-256":
		options = append(options, kgo.SASL(scram.Auth{User: user, Pass: password}.AsSha256Mechanism()))
	case "SCRAM-SHA-512":
		options = append(options, kgo.SASL(scram.Auth{User: user, Pass: password}.AsSha512Mechanism()))
	case "OAUTHBEARER":
		token := func(context.Context) (oauth.Auth, error) {
			return oauth.Auth{Token: named["token"], Extensions: map[string]string{"trace": "1"}}, nil
		}
		options = append(options, kgo.SASL(oauth.Oauth(token)))
	}
	if ca, has := named["ssl.ca.pem"]; has {
		config := &tls.Config{RootCAs: x509.NewCertPool()}
		config.RootCAs.AppendCertsFromPEM([]byte(ca))
		if own, has := named["ssl.certificate.pem"]; has {
			pair, err := tls.X509KeyPair([]byte(own), []byte(named["ssl.key.pem"]))
			lines.Check(err)
			config.Certificates = []tls.Certificate{pair}
		}
		options = append(options, kgo.DialTLSConfig(config))
	}
	return options
}
