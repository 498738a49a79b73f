"""Confluent's deserializers: read records from standard input, a line of JSON for each, and print what is in them as JSON.

    serdes_reader.py URL

A line has `format`, `topic`, `payload` and `headers` in hexadecimal, and for Protobuf the name of the message. Schemas of Avro and JSON are
fetched from the registry at the URL; those of Protobuf are in `serdes_golden.py`, because Confluent's client wants them from a registry as
descriptors, which only Confluent's own registry makes of a file.
"""

import json
import sys

from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.schema_registry.json_schema import JSONDeserializer
from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf import json_format

from serdes_golden import MESSAGE


def main(url):
    client = SchemaRegistryClient({"url": url})
    for line in sys.stdin:
        record = json.loads(line)
        headers = [(name, bytes.fromhex(value)) for name, value in record["headers"].items()]
        context = SerializationContext(record["topic"], MessageField.VALUE, headers=headers)
        payload = bytes.fromhex(record["payload"])
        if record["format"] == "AVRO":
            value = AvroDeserializer(client)(payload, context)
        elif record["format"] == "JSON":
            value = JSONDeserializer(None, schema_registry_client=client)(payload, context)
        else:
            message = ProtobufDeserializer(MESSAGE(record["message"]), {})(payload, context)
            value = json_format.MessageToDict(message)
        print(json.dumps(value), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
