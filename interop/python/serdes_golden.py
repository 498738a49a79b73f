"""Writes crates/registry/tests/golden/confluent.json: what confluent-kafka's serializers make of a few values.

    python3 -m venv env && env/bin/pip install 'confluent-kafka[avro,json,protobuf]==2.16.1'
    env/bin/python interop/python/serdes_golden.py > crates/registry/tests/golden/confluent.json

The registry is confluent-kafka's own mock, whose ids and GUIDs are written with each case.
"""

import json

from confluent_kafka.schema_registry import (
    Schema,
    SchemaReference,
    SchemaRegistryClient,
    header_schema_id_serializer,
    prefix_schema_id_serializer,
)
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.schema_registry.json_schema import JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory

CUSTOMER = {"type": "record", "name": "Customer", "namespace": "shop", "fields": [{"name": "name", "type": "string"}]}
ORDER = {
    "type": "record",
    "name": "Order",
    "namespace": "shop",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "item", "type": "string"},
        {"name": "note", "type": ["null", "string"], "default": None},
        {"name": "prices", "type": {"type": "array", "items": "double"}},
    ],
}
SALE = {
    "type": "record",
    "name": "Sale",
    "namespace": "shop",
    "fields": [{"name": "id", "type": "int"}, {"name": "to", "type": "shop.Customer"}],
}
ORDER_JSON = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "title": "Order",
    "type": "object",
    "properties": {"id": {"type": "integer"}, "item": {"type": "string"}},
}
SALE_JSON = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "title": "Sale",
    "type": "object",
    "properties": {"to": {"$ref": "customer.json"}},
}
CUSTOMER_JSON = {"title": "Customer", "type": "object", "properties": {"name": {"type": "string"}}}


def descriptors():
    """Messages of two files, one of which imports the other."""
    field = descriptor_pb2.FieldDescriptorProto
    money = descriptor_pb2.FileDescriptorProto(name="money.proto", package="common", syntax="proto3")
    money.message_type.add(name="Money").field.add(
        name="cents", number=1, type=field.TYPE_INT64, label=field.LABEL_OPTIONAL, json_name="cents"
    )
    shop = descriptor_pb2.FileDescriptorProto(
        name="shop.proto", package="shop", syntax="proto3", dependency=["money.proto"]
    )
    first = shop.message_type.add(name="Customer")
    first.field.add(name="name", number=1, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL, json_name="name")
    order = shop.message_type.add(name="Order")
    order.field.add(
        name="price",
        number=1,
        type=field.TYPE_MESSAGE,
        type_name=".common.Money",
        label=field.LABEL_OPTIONAL,
        json_name="price",
    )
    line = order.nested_type.add(name="Line")
    line.field.add(name="sku", number=1, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL, json_name="sku")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(money)
    pool.Add(shop)
    return lambda name: message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


MESSAGE = descriptors()


def cases():
    for name, schema, references, value in [
        ("order", ORDER, [], {"id": -300, "item": "ink", "note": "früh", "prices": [1.5, -2.0]}),
        ("order without a note", ORDER, [], {"id": 7, "item": "", "note": None, "prices": []}),
        ("sale with a reference", SALE, [("shop.Customer", CUSTOMER)], {"id": 7, "to": {"name": "Ada"}}),
    ]:
        yield "AVRO", name, schema, references, value
    for name, schema, references, value in [
        ("order", ORDER_JSON, [], {"id": 7, "item": "ink"}),
        ("sale with a reference", SALE_JSON, [("customer.json", CUSTOMER_JSON)], {"to": {"name": "Ada"}}),
    ]:
        yield "JSON", name, schema, references, value
    for name, message, value in [
        ("the first message", "shop.Customer", {"name": "Ada"}),
        ("a message with a reference", "shop.Order", {"price": {"cents": "150"}}),
        ("a nested message", "shop.Order.Line", {"sku": "x"}),
    ]:
        yield "PROTOBUF", name, message, [], value


def run(kind, name, schema, references, value, in_header):
    client = SchemaRegistryClient.new_client({"url": "mock://"})
    subject = "orders-value"
    named = []
    for reference, text in references:
        client.register_schema(reference, Schema(json.dumps(text), kind))
        named.append(SchemaReference(reference, reference, 1))
    framing = header_schema_id_serializer if in_header else prefix_schema_id_serializer
    conf = {"auto.register.schemas": True, "schema.id.serializer": framing}
    if kind == "AVRO":
        serializer = AvroSerializer(client, Schema(json.dumps(schema), kind, named), conf=conf)
        given = value
    elif kind == "JSON":
        serializer = JSONSerializer(Schema(json.dumps(schema), kind, named), client, conf=conf)
        given = value
    else:
        message = MESSAGE(schema)
        serializer = ProtobufSerializer(message, client, conf=conf)
        given = json_format.ParseDict(value, message())
    context = SerializationContext("orders", MessageField.VALUE, headers=[])
    payload = serializer(given, context)
    latest = client.get_latest_version(subject)
    others = []
    for reference in latest.schema.references or []:
        found = client.get_version(reference.subject, reference.version)
        others.append({"name": reference.name, "subject": reference.subject, "schema": found.schema.schema_str})
    return {
        "format": kind,
        "name": name,
        "message": schema if kind == "PROTOBUF" else None,
        "id": latest.schema_id,
        "guid": latest.guid,
        "schema": latest.schema.schema_str,
        "references": others,
        "value": value,
        "payload": payload.hex(),
        "headers": {key: value.hex() for key, value in context.headers},
    }


if __name__ == "__main__":
    rows = [run(*case, in_header) for case in cases() for in_header in (False, True)]
    print(json.dumps(rows, indent=1, ensure_ascii=False))
