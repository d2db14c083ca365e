// Sarama against a broker, as tests/clients/README.md says.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"clients/rig"

	"github.com/IBM/sarama"
)

func main() {
	if len(os.Args) < 2 {
		fail(errors.New("usage: sarama read|write|group|admin --bootstrap H:P --topic T ..."))
	}
	flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	bootstrap := flags.String("bootstrap", "", "host:port")
	topic := flags.String("topic", "", "topic")
	timeout := flags.Duration("timeout", 5*time.Minute, "deadline for all of it")
	partition := flags.String("partition", "all", "read: all, or one")
	from := flags.String("from", "earliest", "read: earliest, or an offset")
	until := flags.String("until", "end", "read: end as of now, or the offset to stop before")
	codec := flags.String("compression", "none", "write: none, gzip, snappy, lz4 or zstd")
	group := flags.String("group", "", "group: its name")
	instance := flags.String("instance", "", "group: makes a static member of that name")
	protocol := flags.String("protocol", "classic", "group: classic alone")
	flags.Parse(os.Args[2:])
	ctx, cancel := context.WithTimeout(context.Background(), *timeout)
	defer cancel()
	config := sarama.NewConfig()
	config.ClientID = "rig"
	// It asks in no newer version than this, whatever the broker says that it can.
	config.Version = sarama.MaxVersion
	client := func() sarama.Client {
		client, err := sarama.NewClient([]string{*bootstrap}, config)
		fail(err)
		return client
	}
	switch os.Args[1] {
	case "read":
		fail(read(ctx, client(), *topic, *partition, *from, *until))
	case "write":
		fail(write(config, *bootstrap, *topic, *codec, os.Stdin))
	case "group":
		if *protocol != "classic" {
			fail(fmt.Errorf("sarama has no protocol '%s'", *protocol))
		}
		fail(member(ctx, config, *bootstrap, *topic, *group, *instance, os.Stdin))
	case "admin":
		fail(admin(ctx, client(), *topic))
	default:
		fail(fmt.Errorf("no such command: %s", os.Args[1]))
	}
}

func fail(err error) {
	rig.Fail("sarama", err)
}
