"""Confluent's client for Python, with its serializers: writes flights to a topic with their schema, or reads them.

    flights.py produce|consume --bootstrap HOST:PORT --registry URL --topic TOPIC --format avro|json|protobuf
        --records N --flights FILE --schema FILE

FILE is what `milena-bench flights files DIR` writes: a flight as JSON in each line, and the schema of a format.
As its documentation advises: one producer, `poll(0)` after each record, and many records from each `consume`.
"""

import argparse
import itertools
import json
import sys
import time

import confluent_kafka
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.serialization import MessageField, SerializationContext


def flight_message(schema):
    """The class of the message, made of the `.proto` file: this machine has no protoc."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    kinds = {"int32": descriptor_pb2.FieldDescriptorProto.TYPE_INT32, "string": descriptor_pb2.FieldDescriptorProto.TYPE_STRING}
    file = descriptor_pb2.FileDescriptorProto(name="flight.proto", package="bench", syntax="proto3")
    message = file.message_type.add(name="Flight")
    for line in schema[schema.index("{") + 1 : schema.rindex("}")].split(";"):
        words = line.split()
        if not words:
            continue
        is_optional = words[0] == "optional"
        kind, name, _, number = words[is_optional:]
        field = message.field.add(
            name=name, number=int(number), type=kinds[kind], json_name=name, label=descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL
        )
        if is_optional:
            field.oneof_index = len(message.oneof_decl)
            field.proto3_optional = True
            message.oneof_decl.add(name=f"_{name}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("bench.Flight"))


def read_flights(options, message):
    with open(options.flights) as lines:
        flights = [json.loads(line) for line in lines]
    if message is None:
        return flights
    return [message(**{name: value for name, value in flight.items() if value is not None}) for flight in flights]


def serdes(options, client, schema, message):
    # The schema is there already, as in production.
    conf = {"auto.register.schemas": False, "use.latest.version": True}
    if options.format == "avro":
        from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer

        return lambda: AvroSerializer(client, schema, conf=conf), lambda: AvroDeserializer(client)
    if options.format == "json":
        from confluent_kafka.schema_registry.json_schema import JSONDeserializer, JSONSerializer

        return lambda: JSONSerializer(schema, client, conf=conf), lambda: JSONDeserializer(schema)
    from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer, ProtobufSerializer

    return (
        lambda: ProtobufSerializer(message, client, conf=conf),
        lambda: ProtobufDeserializer(message, {}, client),
    )


def produce(options, serializer, flights):
    failed = 0

    def delivered(error, _):
        nonlocal failed
        failed += error is not None

    producer = Producer({"bootstrap.servers": options.bootstrap, "acks": "all", "enable.idempotence": True})
    context = SerializationContext(options.topic, MessageField.VALUE)
    began = time.perf_counter()
    for flight in itertools.islice(itertools.cycle(flights), options.records):
        value = serializer(flight, context)
        while True:
            try:
                producer.produce(options.topic, value=value, on_delivery=delivered)
                break
            except BufferError:
                producer.poll(0.01)
        producer.poll(0)
    producer.flush()
    return {"records": options.records, "failed": failed, "seconds": time.perf_counter() - began}


def consume(options, deserializer, is_message):
    consumer = Consumer({"bootstrap.servers": options.bootstrap, "group.id": "bench", "enable.auto.commit": False})
    context = SerializationContext(options.topic, MessageField.VALUE)
    records = distance = 0
    began = time.perf_counter()
    consumer.assign([TopicPartition(options.topic, 0, 0)])
    while records < options.records:
        for record in consumer.consume(1000, 1.0):
            if record.error():
                if record.error().code() == KafkaError._PARTITION_EOF:
                    continue
                sys.exit(str(record.error()))
            if records == options.records:
                break
            flight = deserializer(record.value(), context)
            distance += flight.distance + len(flight.carrier) if is_message else flight["distance"] + len(flight["carrier"])
            records += 1
    seconds = time.perf_counter() - began
    consumer.close()
    return {"records": records, "failed": 0, "seconds": seconds, "settings": {"distance": distance}}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("mode", choices=["produce", "consume"])
    for name in ["bootstrap", "registry", "topic", "format", "flights", "schema"]:
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--records", type=int, required=True)
    options = parser.parse_args()
    with open(options.schema) as file:
        text = file.read()
    message = flight_message(text) if options.format == "protobuf" else None
    client = SchemaRegistryClient({"url": options.registry})
    serializer, deserializer = serdes(options, client, Schema(text, options.format.upper()), message)
    if options.mode == "produce":
        outcome = produce(options, serializer(), read_flights(options, message))
    else:
        outcome = consume(options, deserializer(), message is not None)
    print(json.dumps({"client": "confluent-kafka", "version": confluent_kafka.version(), "mode": options.mode, **outcome}))


if __name__ == "__main__":
    main()
